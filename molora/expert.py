"""One expert's share of a run: the tokens it took most. Knows numpy only.

Where in the layers is `analysis.load(part)[..., expert]`. Axes: T tokens, L layers, P projections, K picked.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from molora.trace import RoutingTrace


class Taken(NamedTuple):
    """A token, wherever in the trace it stands, and how much of it an expert took."""

    token_id: int
    rows: tuple[int, ...]
    """Where it stands, first to last"""
    share: float
    """Of the routers that read it there: how many picked the expert"""
    weight: float
    """Mean weight that the expert was applied with where it was picked"""


def most_taken(trace: RoutingTrace, expert: int, tokens: NDArray[np.bool_], *, most: int = 10) -> list[Taken]:
    """The tokens among `tokens` [T] that `expert` took most, at most so many: those of which it took the largest share
    of routers, of two alike the one with more rows, then the earlier one. Tokens it never took are left out."""
    here = trace.expert_ids == expert  # [T, L, P, K]
    picks = np.count_nonzero(here, axis=(1, 2, 3))  # [T]
    weights = np.where(here, trace.expert_weights, 0).sum(axis=(1, 2, 3), dtype=np.float64)  # [T]
    ran = np.count_nonzero((trace.expert_ids >= 0).any(axis=-1), axis=(1, 2))  # [T]
    rows = (tokens & (picks > 0)).nonzero()[0]
    among = (tokens & np.isin(trace.token_ids, trace.token_ids[rows])).nonzero()[0]  # the same token elsewhere counts
    ids, first, which = np.unique(trace.token_ids[among], return_index=True, return_inverse=True)
    taken, read = np.bincount(which, picks[among]), np.bincount(which, ran[among])
    applied = np.bincount(which, weights[among])
    share = taken / np.maximum(read, 1)
    best = np.lexsort((first, -np.bincount(which), -share.round(9)))[:most]
    return [
        Taken(int(ids[at]), tuple(among[which == at].tolist()), float(share[at]), float(applied[at] / taken[at]))
        for at in best
    ]
