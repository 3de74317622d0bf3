"""A report: question, answer, routing, settings and versions in one HTML file that works offline, the trace inside.

All text is escaped, the file may load nothing (its own policy says so), and `trace_of` reads the trace out again.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any, NamedTuple

import plotly
import plotly.graph_objects as go

import molora
from molora.errors import MoloraError
from molora.opening import MAX_BYTES, open_trace
from molora.summary import summary
from molora.trace import RoutingTrace
from viz.assets import PLOTLY_JS, css, js
from viz.figures.conversation import conversation
from viz.figures.edit_words import edit_words
from viz.figures.legend import expert_legend
from viz.figures.load import expert_load
from viz.figures.map import routing_map
from viz.figures.reading import token_readings
from viz.figures.strip import token_strip
from viz.figures.style import template
from viz.figures.summary import summary_line
from viz.figures.token import token_title, token_weights
from viz.figures.words import summary_words
from viz.language import spoken, t
from viz.view import Colour

_OPEN = '<script type="application/octet-stream;base64" id="molora-trace">'
_TRACE = re.compile(re.escape(_OPEN) + r"([A-Za-z0-9+/=]*)</script>")
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
_VALUE_CHARACTERS = 400
_SETTINGS = 100
"""At most so many rows of settings: a trace of anyone's may hold any number."""


class Beside(NamedTuple):
    """A section about more than the trace: an edit's effects, a second run."""

    name: str
    """The figure's id"""
    title: str
    """Safe HTML, as `html` is"""
    html: str
    caption: str
    figure: go.Figure


def report(
    trace: RoutingTrace,
    turns: Sequence[tuple[str, ...]],
    *,
    selected: int | None = None,
    colour: Colour = "expert",
    beside: Sequence[Beside] = (),
) -> str:
    """The page, about 5 MB of which are plotly.js.

    Args:
        trace: the whole trace; every figure is of all its layers and projections.
        turns: (role, text) or (role, text, mark) as `viz.figures.conversation` takes them.
        selected: the row shown in depth; None leaves that figure out.
        colour: what the map's colour means.
        beside: sections between the routing and the settings; `viz.beside` makes them.
    """
    figures = {
        "map": routing_map(trace, colour=colour, selected=selected, height=440),
        "load": expert_load(trace, height=480),
    }
    captions = {
        "map": t("Routing map: tokens across, layers down"),
        "load": t("Load: each expert's share of the picks, prompt and answer apart"),
    }
    readings = ""
    if selected is not None and 0 <= selected < len(trace):
        figures["token"] = token_weights(trace, selected, height=480)
        captions["token"] = token_title(trace, selected)
        sides = "".join(f"<div>{html}</div>" for html in token_readings(trace, selected))
        readings = f'<div class="readings">{sides}</div>'
    drawn = "".join(_place(name, captions[name]) for name in figures)
    sections = "".join(f"<h2>{one.title}</h2>{one.html}{_place(one.name, one.caption)}" for one in beside)
    figures |= {one.name: one.figure for one in beside}
    data = ",".join(f"{json.dumps(name)}:{figure.to_json()}" for name, figure in figures.items())
    words = summary_words(summary(trace), edit=edit_words(trace))
    told = "".join(f"<li>{escape(line)}</li>" for line in words)
    said = escape(t("Edited routing: {edit}", edit=edit_words(trace)))
    edited = f'<p class="edited">{said}</p>' if trace.edit else ""
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in _settings(trace))
    model = escape(str(trace.meta.get("model", t("unknown model")))[:_VALUE_CHARACTERS])
    return f"""\
<!DOCTYPE html>
<html lang="{"zh-CN" if spoken() == "zh" else "en"}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{t("MoLoRA Lens report")}</title>
<style>{css("report")}</style>
</head>
<body>
<h1>{t("MoLoRA Lens report")}</h1>
<p class="soft">{model}: {t("{experts} experts, top-{k}", experts=trace.num_experts, k=trace.top_k)}.
{t("<b>No medical advice.</b> Answers come from a language model and can be wrong.")}</p>
{edited}
<h2>{t("Conversation")}</h2>
{conversation(turns)}
<h2>{t("Tokens, each in the colour of its top expert")}</h2>
<div class="soft">{expert_legend(trace.num_experts)}</div>
<div class="strip">{token_strip(trace, selected=selected)}</div>
<div class="soft" id="token-line"></div>
<h2>{t("Routing")}</h2>
<div class="summary">{summary_line(trace)}</div>
<ul class="words">{told}</ul>
{drawn}
{readings}
{sections}
<h2>{t("Settings and versions")}</h2>
<table>{rows}</table>
<p class="soft">{t("The trace lies in this file: MoLoRA Lens opens it again with <i>Open trace</i>.")}</p>
{_OPEN}{_packed(trace)}</script>
<script type="application/json" id="molora-figures">{_inert("{" + data + "}")}</script>
<script>{PLOTLY_JS.read_text(encoding="utf-8")}</script>
<script>const DARK = {json.dumps(template(dark=True))};
{js("report")}</script>
</body>
</html>
"""


def _place(name: str, caption: str) -> str:
    """Where the script draws a figure."""
    label = re.sub("<[^>]*>", "", caption)
    return (
        f'<figure><figcaption>{caption}</figcaption><div class="plot" id="{name}" role="img" '
        f'aria-label="{label}"></div></figure>'
    )


def trace_of(page: str, name: str = "The report") -> RoutingTrace:
    """The trace that lies in a report. Raises MoloraError for a page that holds none, or not exactly one that opens."""
    found = _TRACE.findall(page)
    if len(found) != 1:
        raise MoloraError(t("{name} holds no trace. Open a report of this program, or a trace (.npz).", name=name[:80]))
    if len(found[0]) > MAX_BYTES * 4 // 3 + 4:
        raise MoloraError(f"{name[:80]} holds a trace of more than {MAX_BYTES >> 20} MB, which cannot be opened.")
    try:
        content = base64.b64decode(found[0], validate=True)
    except binascii.Error as error:
        raise MoloraError(f"{name[:80]} is damaged ({error}). Save it again.") from error
    return open_trace(content, name)


def _packed(trace: RoutingTrace) -> str:
    buffer = io.BytesIO()
    trace.save(buffer)
    return base64.b64encode(buffer.getvalue()).decode()


def _inert(text: str) -> str:
    """JSON that cannot end the script element it stands in."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e")


def _settings(trace: RoutingTrace) -> list[tuple[str, str]]:
    """(name, value) of everything the trace's meta tells, and of what made the report."""
    sizes = {
        "tokens": len(trace),
        "layers": trace.num_layers,
        "projections": ", ".join(trace.projections),
        "report made by": f"MoLoRA Lens {molora.__version__}, plotly {plotly.__version__}",
    }
    rows = [*_flat(trace.meta | {"edit": trace.edit or "none"}), *_flat(sizes)]
    return [(name[:_VALUE_CHARACTERS], value[:_VALUE_CHARACTERS]) for name, value in rows[:_SETTINGS]]


def _flat(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """One level of dictionaries inside is spread out; what lies deeper is JSON."""
    for name, value in values.items():
        for inner, one in value.items() if isinstance(value, dict) else (("", value),):
            text = one if isinstance(one, str) else json.dumps(one, ensure_ascii=False)
            yield f"{name} {inner}".strip(), text
