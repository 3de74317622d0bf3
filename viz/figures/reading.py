"""One token's two readings in numbers and words: what its routers did, and what the model would say next. Safe HTML.

Row t is the routing while token t was read; row t - 1 shaped the prediction of token t.
"""

from __future__ import annotations

from html import escape

import numpy as np

from molora import analysis
from molora.trace import ANSWER, RoutingTrace
from viz.figures.style import short, visible
from viz.language import t
from viz.palette import expert_colours, text_colour

EXPERTS = 8
"""At most so many are named, those with the most picks."""

_STYLE = (
    ".molora-reading{font-size:12.5px;line-height:18px}"
    ".molora-reading p{margin:0}"
    ".molora-reading .soft{opacity:.82}"
    ".molora-reading .experts{display:flex;flex-wrap:wrap;gap:1px 6px;margin:2px 0;padding:0;font-size:12px;"
    "list-style:none}"
    ".molora-reading .experts b{display:inline-block;min-width:15px;padding:0 1px;margin-right:3px;border-radius:3px;"
    "text-align:center;"
    "font-size:11px;line-height:16px;box-shadow:inset 0 0 0 1px #8886}"
    ".molora-reading ol.next{margin:0;padding:0;list-style:none}"
    ".molora-reading .next li{display:grid;grid-template-columns:minmax(60px,8em) 1fr 3.2em 4.2em;gap:8px;"
    "align-items:center;line-height:17px}"
    ".molora-reading .next .text{overflow:hidden;text-overflow:ellipsis;white-space:pre;unicode-bidi:isolate}"
    ".molora-reading .next .bar{height:8px;border-radius:2px;background:#8883}"
    ".molora-reading .next .bar i{display:block;height:100%;min-width:1px;border-radius:2px;background:#7a7a85}"
    ".molora-reading .next .share{text-align:right;font-variant-numeric:tabular-nums}"
    ".molora-reading .next .chosen{font-weight:700}"
)


def token_readings(trace: RoutingTrace, token: int) -> tuple[str, str]:
    """(read by, predicted by): HTML of row `token` of `trace` [T, L, P, ...] and of the row before it.

    Each has the share of the picks by expert, the mean entropy, the margin to the runner-up (`analysis.margin`), and
    the likeliest next tokens as the trace has them. All text is escaped.
    """
    words = t("row {row}: while the model read this token", row=token)
    read = _reading(trace, token, t("Read by"), words, t("After it, the likeliest"))
    if token == 0:
        return read, _framed(_head(t("Predicted by"), t("nothing: no row stands before the first token")))
    words = t("row {row}: the row before, which shaped its prediction", row=token - 1)
    return read, _reading(trace, token - 1, t("Predicted by"), words, t("Here, the likeliest"))


def _reading(trace: RoutingTrace, row: int, name: str, words: str, heading: str) -> str:
    return _framed(_head(name, words) + _experts(trace, row) + _numbers(trace, row) + _candidates(trace, row, heading))


def _head(name: str, words: str) -> str:
    return f'<p><b>{name}</b> <span class="soft">{words}</span></p>'


def _framed(html: str) -> str:
    return f'<style>{_STYLE}</style><div class="molora-reading">{html}</div>'


def _experts(trace: RoutingTrace, row: int) -> str:
    """Each expert's share of the row's picks, and the mean of what the routers gave it, over layers and projections."""
    picks = trace.expert_ids[row]
    counts = np.bincount(picks[picks >= 0], minlength=trace.num_experts)
    if not counts.sum():
        return f"<p>{t('No expert was picked.')}</p>"
    named = np.sort(np.argsort(-counts, kind="stable")[:EXPERTS])
    colours = expert_colours(trace.num_experts)
    given = analysis.mean(analysis.probabilities(trace.select(tokens=slice(row, row + 1))), (0, 1, 2))  # [E]
    shares = [(n, colours[n], f"{counts[n] / counts.sum():.0%}", f"{given[n]:.3f}") for n in named.tolist()]
    items = "".join(
        f'<li aria-label="{t("expert {expert}: {share} of the picks", expert=n, share=share)}" '
        f'title="{t("mean router probability {mean}", mean=mean)}">'
        f'<b style="background:{colour};color:{text_colour(colour)}">{n}</b>{share}</li>'
        for n, colour, share, mean in shares
    )
    return f'<ul class="experts" aria-label="{t("Share of the picks by expert")}">{items}</ul>'


def _numbers(trace: RoutingTrace, row: int) -> str:
    part = trace.select(tokens=slice(row, row + 1))
    entropy, margins = analysis.mean(analysis.entropy(part), None), analysis.margin(part)[0]  # [L, P]
    if np.isnan(entropy):
        return f"<p>{t('No router has run.')}</p>"
    text = t("entropy <b>{value:.2f}</b>", value=entropy)
    if not np.isnan(margins).all():
        layer, at = np.unravel_index(np.nanargmin(margins), margins.shape)
        least = f"{margins[layer, at]:.4f}" if abs(margins[layer, at]) >= 5e-5 else "&lt;0.0001"
        name = escape(short(trace.projections[at]))
        where = t("layer {layer}, {projection}", layer=trace.layer_indices[layer], projection=name)
        mean = np.nanmean(margins)
        text += " · " + t("margin <b>{mean:.3f}</b>, smallest <b>{least}</b>", mean=mean, least=least) + f" ({where})"
    title = t(
        "Means over the routers. Entropy: 0 is certain, 1 is uniform. Margin to the runner-up: the router probability "
        "of the weakest expert picked less that of the strongest one left."
    )
    return f'<p title="{title}">{text}</p>'


def _candidates(trace: RoutingTrace, row: int, heading: str) -> str:
    """The likeliest next tokens after `row`, the one that came marked by a word."""
    found = trace.candidates(row)
    if not found:
        why = (
            t("No next tokens: the vocabulary is scored only where the model speaks.")
            if trace.candidate_ids.shape[1]
            else t("No next tokens: the trace does not hold them.")
        )
        return f'<p class="soft">{why}</p>'
    spoken = row + 1 < len(trace) and trace.phase[row + 1] == ANSWER
    chosen = int(trace.token_ids[row + 1]) if spoken else -1
    items = "".join(
        f'<li><span class="text">{_shown(text)}</span><span class="bar" aria-hidden="true">'
        f'<i style="width:{share:.1%}"></i></span><span class="share">{share:.1%}</span>'
        f'<span class="chosen">{t("chosen") if token == chosen else ""}</span></li>'
        for token, text, share in found
    )
    title = t("The softmax of the model&#39;s own scores, before temperature, top-p and repetition penalty")
    if not spoken:
        note = t("what was drawn was not read and has no row")
    elif chosen in [token for token, _, _ in found]:
        note = t("before temperature and penalty")
    else:
        note = t("chosen instead: <b>{token}</b>", token=_shown(trace.token_text[row + 1]))
    return (
        f'<p title="{title}">{heading}{t(": ")}<span class="soft">{note}</span></p>'
        f'<ol class="next" aria-label="{t("Likeliest next tokens")}">{items}</ol>'
    )


def _shown(text: str) -> str:
    return escape(visible(text)) if text else t("part of a character")
