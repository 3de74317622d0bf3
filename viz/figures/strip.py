"""The token strip: every token a small button in the colour of its top expert. Safe HTML, usable in a notebook."""

from __future__ import annotations

from html import escape

from molora.analysis import token_experts
from molora.trace import ANSWER, TEMPLATE, RoutingTrace
from viz.figures.style import PHASES, visible
from viz.language import t
from viz.palette import expert_colours, text_colour
from viz.view import Show, shown_tokens

_STYLE = (  # [data-t] outweighs what a host page says of all buttons
    ".molora-strip{line-height:1.8;font-size:12.5px}"
    ".molora-strip button[data-t]{font:inherit;line-height:1.4;border:0;border-radius:3px;margin:0 1px 0 0;"
    "padding:0 3px;"
    "cursor:pointer;max-width:16em;min-width:0;overflow:hidden;text-overflow:ellipsis;white-space:pre;"
    "vertical-align:middle;unicode-bidi:isolate;background:var(--c,#8883);color:var(--t,inherit);"
    "box-shadow:inset 0 0 0 1px #8885}"
    ".molora-strip button.w[data-t]{margin-left:4px}"
    ".molora-strip button.t[data-t]{background:none;color:inherit;border-radius:0;"
    "box-shadow:inset 0 -2px 0 var(--c,#8888)}"
    ".molora-strip button[aria-pressed]{outline:2px solid var(--mark,currentColor);"
    "outline-offset:1px;position:relative}"
    ".molora-strip .rule{display:inline-block;width:2px;height:1.4em;margin:0 7px 0 6px;vertical-align:middle;"
    "background:currentColor}"
)


def token_strip(trace: RoutingTrace, *, show: Show = "both", selected: int | None = None, offset: int = 0) -> str:
    """HTML of one `<button data-t="row">` a token of `trace` [T, L, P, K], coloured by the expert that has the most
    weight over all its layers and projections (narrow them with `trace.select`).

    offset: the number of the first row, where `trace` is a part of a longer one; rows count from 0 there.

    Chat-template tokens are only underlined; a rule stands before the answer. All text is escaped.
    """
    experts = token_experts(trace)
    colours = expert_colours(trace.num_experts)
    used = sorted({int(expert) for expert in experts if expert >= 0})
    rules = "".join(f".molora-strip .e{n}{{--c:{colours[n]};--t:{text_colour(colours[n])}}}" for n in used)
    parts = [f'<style>{_STYLE}{rules}</style><div class="molora-strip" role="toolbar" aria-label="{t("Tokens")}">']
    kept = shown_tokens(trace, show)
    chosen = -1 if selected is None or not 0 <= selected - offset < len(trace) else selected - offset
    focus = chosen if chosen >= 0 and kept[chosen] else int(kept.argmax()) if kept.any() else -1
    answering = False
    for row in kept.nonzero()[0].tolist():
        if trace.phase[row] == ANSWER and not answering:
            answering = True
            parts.append(f'<span class="rule" role="separator" aria-label="{t("The answer begins")}"></span>')
        parts.append(_button(trace, row, offset, int(experts[row]), row == chosen, row == focus))
    return "".join(parts) + "</div>"


def _button(trace: RoutingTrace, row: int, offset: int, expert: int, pressed: bool, focus: bool) -> str:
    text, phase = trace.token_text[row], int(trace.phase[row])
    names = [f"e{expert}"] if expert >= 0 else []
    names += ["w"] * (text[:1] == " ") + ["t"] * (phase == TEMPLATE)
    shown = escape(visible(text))
    top = f"{t('expert')} {expert}" if expert >= 0 else t("no expert")
    title = f"{shown} · {t('token')} {offset + row}, {t(PHASES[phase])} · {top}"
    return (
        f'<button type="button" data-t="{offset + row}" class="{" ".join(names)}" title="{title}"'
        f' tabindex="{0 if focus else -1}"{" aria-pressed=true" if pressed else ""}>{shown}</button>'
    )
