"""One expert: its share of the picks by layer and projection, and the tokens it took most. A figure and safe HTML."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from molora import analysis
from molora.expert import Taken, most_taken
from molora.trace import ANSWER, PROMPT, TEMPLATE, RoutingTrace
from viz.figures.style import blank, figure, layer_axis, mark_edit, note, short, visible
from viz.language import noted, t
from viz.palette import expert_colours, text_colour
from viz.view import Show

SIDES = ((PROMPT, noted("prompt")), (ANSWER, noted("answer")))
ROWS = 5
"""At most so many rows of a token have a button."""

_STYLE = (
    ".molora-expert{display:grid;grid-template-columns:repeat(auto-fit,minmax(280px,1fr));gap:6px 22px;"
    "align-items:start;font-size:12.5px;line-height:17px}"
    ".molora-expert table{width:100%;border-collapse:collapse}"
    ".molora-expert caption{text-align:left;font-weight:700}"
    ".molora-expert th{font-weight:400;text-align:left;opacity:.82}"
    ".molora-expert :is(td,th){padding:0 8px 0 0;vertical-align:top}"
    ".molora-expert :is(td,th).n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}"
    ".molora-expert .text{max-width:11em;overflow:hidden;text-overflow:ellipsis;white-space:pre;unicode-bidi:isolate}"
    ".molora-expert button[data-t]{font:inherit;line-height:16px;padding:0 5px;margin:0 3px 1px 0;"
    "border:1px solid #8888;border-radius:3px;min-width:24px;cursor:pointer;background:none;color:inherit}"
    ".molora-expert button[aria-pressed]{outline:2px solid currentColor}"
)


def expert_layers(trace: RoutingTrace, expert: int, *, height: int = 230) -> go.Figure:
    """Layers across, projections down, prompt above answer: the share of a router's picks that `expert` took, in
    percent, of `trace` [T, L, P, K]; darker is more, and the even share is named."""
    if not (trace.phase != TEMPLATE).any() or not trace.expert_ids.size or not 0 <= expert < trace.num_experts:
        return blank(t("Nothing was routed."), height)
    even = 100 / trace.num_experts
    layers = trace.layer_indices.astype(str)
    names = [escape(short(name)) for name in trace.projections]
    layout: dict[str, Any] = {
        "margin": {"l": 44, "r": 66, "t": 22, "b": 34},
        "annotations": [],
        "coloraxis": {
            "cmin": 0,
            "cmax": min(100.0, 4 * even),
            "colorscale": [(0, "rgba(128,128,128,0.03)"), (1, "#6b6b76")],
            "colorbar": {"title": {"text": t("share")}, "ticksuffix": " %"},
        },
    }
    data = []
    for side, (phase, english) in enumerate(SIDES):
        name = t(english)
        part = trace.select(tokens=trace.phase == phase)
        share = 100 * analysis.load(part)[..., expert].T  # [P, L]
        number = "" if side == 0 else "2"
        data.append(
            {
                "type": "heatmap",
                "z": share.astype(np.float32),
                "x": layers,
                "y": names,
                "coloraxis": "coloraxis",
                "xaxis": f"x{number}",
                "yaxis": f"y{number}",
                "xgap": 1,
                "ygap": 1,
                "hoverongaps": False,
                "hovertemplate": f"{name}, "
                + t("layer {layer}, {projection}", layer="%{x}", projection="%{y}")
                + f"{t(': ')}%{{z:.1f}} %<extra></extra>",
            }
        )
        layout[f"xaxis{number}"] = {
            "type": "category",
            "anchor": f"y{number}",
            "nticks": 16,
            "fixedrange": True,
            "showticklabels": side == 1,
            "title": {"text": t("layer") if side else ""},
            "range": [-0.5, trace.num_layers - 0.5],
        }
        layout[f"yaxis{number}"] = {
            "domain": [0.56, 1] if side == 0 else [0, 0.44],
            "anchor": f"x{number}",
            "fixedrange": True,
            **layer_axis(trace),
            "range": [len(names) - 0.5, -0.5],
        }
        took = analysis.mean(share, None)
        words = t("{side}: {share:.1f} % of the picks (even: {even:.3g} %)", side=name, share=took, even=even)
        words = words if len(part) else t("{side}: nothing yet", side=name)
        top = 1 if side == 0 else 0.44
        layout["annotations"].append(
            note(words, xref="paper", yref="paper", x=0, y=top, xanchor="left", yanchor="bottom")
        )
    mark_edit(layout, trace)
    return figure(height, data, layout)


def expert_tokens(trace: RoutingTrace, expert: int, *, show: Show = "both", selected: int | None = None) -> str:
    """HTML: the tokens of prompt and answer that `expert` took most, each with buttons `data-t="row"`. All text is
    escaped; template tokens belong to neither side."""
    sides = [(phase, name) for phase, name in SIDES if show in ("both", name)]
    tables = "".join(
        _table(trace, name, most_taken(trace, expert, trace.phase == phase, most=8), selected) for phase, name in sides
    )
    return f'<style>{_STYLE}</style><div class="molora-expert">{tables}</div>'


def expert_chips(num_experts: int, chosen: int | None) -> str:
    """HTML of one `<button data-e="number">` an expert, the chosen one pressed."""
    colours = expert_colours(num_experts)
    return "".join(
        f'<button type="button" data-e="{number}" aria-label="{t("Expert {number}", number=number)}" '
        f'aria-pressed="{"true" if number == chosen else "false"}" '
        f'style="background:{colour};color:{text_colour(colour)}">{number}</button>'
        for number, colour in enumerate(colours)
    )


def _table(trace: RoutingTrace, name: str, taken: list[Taken], selected: int | None) -> str:
    title = t("Tokens of the prompt it took most") if name == "prompt" else t("Tokens of the answer it took most")
    caption = f"<caption>{title}</caption>"
    if not taken:
        return f"<table>{caption}<tr><td>{t('None.')}</td></tr></table>"
    head = (
        f'<tr><th scope="col">{t("token")}</th><th scope="col">{t("rows")}</th><th scope="col" class="n" '
        f'title="{t("Of the routers that read the token, how many picked the expert")}">{t("routers")}</th>'
        f'<th scope="col" class="n" title="{t("Mean weight where it was picked")}">{t("weight")}</th></tr>'
    )
    lines = []
    for one in taken:
        text = escape(visible(trace.token_text[one.rows[0]]))
        buttons = "".join(
            f'<button type="button" data-t="{row}" aria-label="{t("Select token {row}, {text}", row=row, text=text)}"'
            f"{' aria-pressed=true' if row == selected else ''}>{row}</button>"
            for row in one.rows[:ROWS]
        )
        more = f"+ {len(one.rows) - ROWS}" if len(one.rows) > ROWS else ""
        lines.append(
            f'<tr><td class="text">{text}</td><td>{buttons}{more}</td>'
            f'<td class="n">{one.share:.0%}</td><td class="n">{one.weight:.2f}</td></tr>'
        )
    return f"<table>{caption}{head}{''.join(lines)}</table>"
