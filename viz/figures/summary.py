"""The routing in one line: load, entropy, most used pair. Safe HTML."""

from __future__ import annotations

from html import escape

import numpy as np

from molora import analysis
from molora.trace import RoutingTrace
from viz.view import Show, shown_tokens

_EDIT_CHARACTERS = 120


def summary_line(trace: RoutingTrace, *, show: Show = "both") -> str:
    """One line about `trace` [T, L, P, ...] and the tokens that `show` keeps; an edit is named first."""
    part = trace.select(tokens=shown_tokens(trace, show))
    shares = analysis.load(part)
    if not len(part) or np.isnan(shares).all():
        return "<span>No token routed yet.</span>"
    mean = np.nanmean(shares, axis=(0, 1))  # [E]
    top, pair = int(mean.argmax()), analysis.most_used_pair(part)
    parts = [f'<b class="mark">Edited: {escape(trace.edit[:_EDIT_CHARACTERS])}</b>'] if trace.edit else []
    parts += [
        f"<b>{len(part)}</b> tokens",
        f"expert <b>{top}</b> leads, {mean[top]:.0%} (uniform {100 / trace.num_experts:.3g}%)",
        f"entropy <b>{np.nanmean(analysis.entropy(part)):.2f}</b>",
    ]
    if pair:
        parts.append(f"top pair <b>{pair[0]} + {pair[1]}</b>, {pair[2]:.0%}")
    return "".join(f"<span>{text}</span>" for text in parts)
