"""The pieces of one token's way through a decoder layer, attention apart."""

from __future__ import annotations

import math

import numpy as np
from numba import prange
from numpy.typing import NDArray

from molora.fast.kernel.keeping import inner, shared
from molora.fast.kernel.lanes import LANES, Floats, Narrow, in_line, load, load_two, silu, spread, store, total
from molora.fast.kernel.layers import Adapter, Linears
from molora.fast.kernel.levels import LEVELS_BLOCK, WORDS, quantize, row_of
from molora.fast.kernel.picks import pick
from molora.fast.kernel.products import product
from molora.fast.kernel.several import WIDTH
from molora.fast.kernel.shares import chunks_of, holder


@inner
def _down(x: Floats, p: int, adapter: Adapter, masks: Floats, row: Floats, ids: NDArray[np.int64], h: Floats) -> None:
    """What one router picks, row [E+2K], and h [K, R]: x [I] in the ranks of those that weigh anything, the others' ids
    [K] are -1. Or in those of plain LoRA, which is expert 0."""
    router, bias, a, _, _, scaling = adapter
    count, top_k = a.shape[1], h.shape[0]
    if len(router) == 0:
        product(a[p, 0], x, h[0])
        ids[0] = 0
        return
    product(router[p], x, row)
    for e in range(count):
        row[e] += bias[p, e]
    pick(row.reshape(1, -1), 0, masks[p], top_k)
    for k in range(top_k):
        e, gate = int(row[count + k]), np.float32(row[count + top_k + k] * scaling)
        ids[k] = e if gate != 0 else -1  # one switched off must add nothing even where it overflows
        if ids[k] >= 0:
            product(a[p, e], x, h[k])
            for r in range(h.shape[1]):
                h[k, r] *= gate


@inner
def _up(y: Floats, o: int, o1: int, h: Floats, ids: NDArray[np.int64], panels: Narrow, panel: int) -> None:
    """y [P*O], two registers of it, or one twice, += h [K, R] through the experts' rows of a panel [E*R, `WIDTH`]."""
    zero = spread(np.float32(0))
    (top_k, rank), first, s0, s1 = h.shape, panel * panels.shape[1], zero, zero
    for k in range(top_k):
        if ids[k] >= 0:
            at = (first + ids[k] * rank) * WIDTH
            for r in range(rank):
                one, two = load_two(panels, at + r * WIDTH)
                s0, s1 = s0 + one * spread(h[k, r]), s1 + two * spread(h[k, r])
    s0, s1 = in_line(panels, s0, s1)
    y0, y1 = load(y, o) + s0, load(y, o1) + s1
    store(y, o, y0)
    store(y, o1, y1)


@shared
def adapted(
    x: Floats, linears: Linears, lora: bool, masks: Floats, rows: Floats, y: Floats, onto: bool, parts: int
) -> None:
    """One token through linears that read x [I]: the base's product and what their adapters add to it, plain LoRA only
    where it is on.

    Goes to y [P*O], or is added `onto` it. masks [P, 4, E]: an edit's offset, kept (1 or 0), shift and sharpness.
    rows [P, E+2K] takes logits, ids and weights. Each part of the work makes some of y.
    """
    words, first, bias, adapter = linears
    router, _, a, _, up, _ = adapter
    routed, adds, top_k = len(router) > 0, len(a) > 0 and (lora or len(router) > 0), 1
    if routed:
        top_k = (rows.shape[1] - a.shape[1]) // 2
    blocks, panels = words.shape[1] // (WORDS * LANES), 0
    whole, steps, sums = (
        np.empty(blocks * LEVELS_BLOCK, np.int16),
        np.empty(blocks, np.float32),
        np.empty((2, blocks), np.float32),
    )
    quantize(x, whole, steps, sums)
    for p in range(len(first) - 1):
        panels += (first[p + 1] - first[p] + LANES) // WIDTH
    for part in prange(parts):
        begin, end, before = panels * part // parts, panels * (part + 1) // parts, 0
        row, h = np.empty(rows.shape[1], np.float32), np.empty((top_k, a.shape[2]), np.float32)
        ids = np.empty(top_k, np.int64)
        for p in range(len(first) - 1):
            after = before + (first[p + 1] - first[p] + LANES) // WIDTH
            own, last = max(begin, before), min(end, after)
            start, stop = first[p] + (own - before) * WIDTH, min(first[p] + (last - before) * WIDTH, first[p + 1])
            for o in range(start, stop, LANES):
                sum_ = load(bias, o) + row_of(words[o // LANES], whole, steps, sums)
                store(y, o, load(y, o) + sum_ if onto else sum_)
            # each part goes down for itself where it goes up: that takes less than to wait for another one
            if adds and own < last:
                _down(x, p, adapter, masks, row, ids, h)
                for panel in range(own, last):
                    o = first[p] + (panel - before) * WIDTH
                    _up(y, o, min(o + LANES, first[p + 1] - LANES), h, ids, up, panel)
                if routed and own == before:
                    rows[p] = row
            before = after


@inner
def norm_row(x: Floats, weight: Floats, eps: float, y: Floats) -> None:
    """y [I]: RMSNorm of x [I]."""
    squares = spread(np.float32(0))
    for i in range(0, x.shape[0], LANES):
        own = load(x, i)
        squares += own * own
    scale = spread(np.float32(1 / math.sqrt(total(squares) / x.shape[0] + eps)))
    for i in range(0, x.shape[0], LANES):
        store(y, i, load(x, i) * scale * load(weight, i))


@shared
def all_normed(x: Floats, weight: Floats, eps: float, y: Floats, parts: int) -> None:
    """The same of many, x [N, I]."""
    ends = chunks_of(len(x), parts)
    for part in prange(parts):
        for chunk in range(len(ends) - 1):
            if holder(chunk, parts) != part:
                continue
            for n in range(ends[chunk], ends[chunk + 1]):
                norm_row(x[n], weight, eps, y[n])


@inner
def gated(both: Floats, y: Floats) -> None:
    """y [M]: silu(gate) * up of the two side by side [2*M]."""
    for i in range(0, len(y), LANES):
        store(y, i, silu(load(both, i)) * load(both, len(y) + i))


@inner
def turned(states: Floats, cos: Floats, sin: Floats, query: Floats, kept: Floats, at: int) -> None:
    """Queries, keys and values side by side [H+2G, D]: turns the first two to a position, where cosines and signed
    sines are [D]; queries go to [H, D], keys and values to place `at` of a cache of [2*G, room, D]."""
    heads, groups, half = len(query), len(kept) // 2, cos.shape[0] // 2
    for head in range(heads + groups):
        target = query[head] if head < heads else kept[head - heads, at]
        for d in range(half):
            one, other = states[head, d], states[head, d + half]
            target[d] = one * cos[d] + other * sin[d]
            target[d + half] = other * cos[d + half] + one * sin[d + half]
    for group in range(groups):
        kept[groups + group, at] = states[heads + groups + group]
