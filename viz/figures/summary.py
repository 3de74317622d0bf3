"""The routing in one line: load, entropy, most used pair. Safe HTML."""

from __future__ import annotations

from html import escape

import numpy as np

from molora import analysis
from molora.trace import RoutingTrace
from viz.figures.edit_words import edit_words
from viz.language import t
from viz.view import Show, shown_tokens

_EDIT_CHARACTERS = 120


def summary_line(trace: RoutingTrace, *, show: Show = "both") -> str:
    """One line about `trace` [T, L, P, ...] and the tokens that `show` keeps; an edit is named first."""
    part = trace.select(tokens=shown_tokens(trace, show))
    shares = analysis.load(part)
    if not len(part) or np.isnan(shares).all():
        return f"<span>{t('No token routed yet.')}</span>"
    mean = np.nanmean(shares, axis=(0, 1))  # [E]
    top, pair = int(mean.argmax()), analysis.most_used_pair(part)
    edited = escape(t("Edited: {edit}", edit=edit_words(trace)[:_EDIT_CHARACTERS]))
    even = 100 / trace.num_experts
    parts = [f'<b class="mark">{edited}</b>'] if trace.edit else []
    parts += [
        t("<b>{count}</b> tokens", count=len(part)),
        t("expert <b>{top}</b> leads, {share:.0%} (uniform {even:.3g}%)", top=top, share=mean[top], even=even),
        t("entropy <b>{value:.2f}</b>", value=np.nanmean(analysis.entropy(part))),
    ]
    if pair:
        low, high, share = pair
        parts.append(t("top pair <b>{low} + {high}</b>, {share:.0%}", low=low, high=high, share=share))
    return "".join(f"<span>{text}</span>" for text in parts)
