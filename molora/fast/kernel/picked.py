"""One token through the experts that its router picks, or through plain LoRA, which is expert 0."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from molora.fast.kernel.keeping import inner
from molora.fast.kernel.lanes import Floats, Narrow, in_line, load, load_two, spread, store
from molora.fast.kernel.layers import Adapter
from molora.fast.kernel.picks import pick
from molora.fast.kernel.prefetching import lines_of, prefetch, prefetch_rows
from molora.fast.kernel.products import product
from molora.fast.kernel.several import WIDTH

_AHEAD = 6
"""Panels that are asked for ahead of time"""


@inner
def route(x: Floats, p: int, adapter: Adapter, masks: Floats, row: Floats, ids: NDArray[np.int64]) -> None:
    """What one router picks, row [E+2K], and which of those weigh anything, ids [K]: the others' are -1. Of plain LoRA
    it is expert 0."""
    router, bias, a, _, _, scaling = adapter
    count, top_k = a.shape[1], len(ids)
    if len(router) == 0:
        ids[0] = 0
        return
    product(router[p], x, row)
    for e in range(count):
        row[e] += bias[p, e]
    pick(row.reshape(1, -1), 0, masks[p], top_k)
    for k in range(top_k):
        # one switched off must add nothing even where it overflows
        ids[k] = int(row[count + k]) if np.float32(row[count + top_k + k] * scaling) != 0 else -1


@inner
def go_down(x: Floats, p: int, adapter: Adapter, row: Floats, ids: NDArray[np.int64], h: Floats) -> None:
    """h [K, R]: x [I] in the ranks of those that weigh anything, times their gates."""
    router, _, a, _, _, scaling = adapter
    for k in range(len(ids)):
        if ids[k] >= 0:
            product(a[p, ids[k]], x, h[k])
            if len(router) > 0:
                gate = np.float32(row[a.shape[1] + len(ids) + k] * scaling)
                for r in range(h.shape[1]):
                    h[k, r] *= gate


@inner
def go_up(y: Floats, o: int, o1: int, h: Floats, ids: NDArray[np.int64], up: Narrow, panel: int) -> None:
    """y [P*O], two registers of it, or one twice, += h [K, R] through a panel of each one's B, up
    [E, panels, R, `WIDTH`]."""
    zero = spread(np.float32(0))
    (top_k, rank), s0, s1 = h.shape, zero, zero
    for k in range(top_k):
        if ids[k] >= 0:
            at = (ids[k] * up.shape[1] + panel) * rank * WIDTH
            prefetch(up, at + _AHEAD * rank * WIDTH, lines_of(up, rank * WIDTH))
            for r in range(rank):
                one, two = load_two(up, at + r * WIDTH)
                s0, s1 = s0 + one * spread(h[k, r]), s1 + two * spread(h[k, r])
    s0, s1 = in_line(up, s0, s1)
    y0, y1 = load(y, o) + s0, load(y, o1) + s1
    store(y, o, y0)
    store(y, o1, y1)


@inner
def ask_for(ids: NDArray[np.int64], a: Narrow, up: Narrow, panel: int) -> None:
    """Has memory bring what picked experts need: their A's [E, R, I], and their first panels from one on."""
    for k in range(len(ids)):
        if ids[k] >= 0:
            prefetch_rows(a[ids[k]])
            first = (ids[k] * up.shape[1] + panel) * up.shape[2] * WIDTH
            prefetch(up, first, lines_of(up, _AHEAD * up.shape[2] * WIDTH))
