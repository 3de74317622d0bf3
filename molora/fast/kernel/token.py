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
from molora.fast.kernel.prefetching import lines_of, prefetch, prefetch_rows
from molora.fast.kernel.products import product
from molora.fast.kernel.several import WIDTH
from molora.fast.kernel.shares import chunks_of, holder

_AHEAD = 6
"""Panels that are asked for ahead of time"""


@inner
def _route(x: Floats, p: int, adapter: Adapter, masks: Floats, row: Floats, ids: NDArray[np.int64]) -> None:
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
def _down(x: Floats, p: int, adapter: Adapter, row: Floats, ids: NDArray[np.int64], h: Floats) -> None:
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
def _up(y: Floats, o: int, o1: int, h: Floats, ids: NDArray[np.int64], up: Narrow, panel: int) -> None:
    """y [P*O], two registers of it, or one twice, += h [K, R] through a panel of each expert's, up [E, panels, R, `WIDTH`]."""
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
def _ask(ids: NDArray[np.int64], a: Narrow, up: Narrow, panel: int) -> None:
    """Memory for the picked experts' A's [E, R, I], and for their panels from the first on."""
    for k in range(len(ids)):
        if ids[k] >= 0:
            prefetch_rows(a[ids[k]])
            first = (ids[k] * up.shape[1] + panel) * up.shape[2] * WIDTH
            prefetch(up, first, lines_of(up, _AHEAD * up.shape[2] * WIDTH))


@inner
def _costs(linears: Linears, adds: bool, top_k: int) -> NDArray[np.int64]:
    """How many registers of rows take as many bytes as what one token needs of each linear's adapter [P]."""
    words, first, _, (router, _, a, _, up, _) = linears
    _, count, rank, size = a.shape
    costs = np.zeros(len(first) - 1, np.int64)
    for p in range(len(costs) if adds else 0):
        routed = count * size * router.itemsize if len(router) > 0 else 0
        picked = top_k * rank * (size * a.itemsize + (first[p + 1] - first[p]) * up.itemsize)
        costs[p] = (routed + picked) // (max(1, words.shape[1]) * words.itemsize)
    return costs


@inner
def _divided(first: NDArray[np.int64], costs: NDArray[np.int64], parts: int) -> NDArray[np.int64]:
    """Where parts of the work begin, and the last one ends [parts+1], in registers of rows: before each linear's own
    comes what its adapter costs, which is one part's."""
    ends, total = np.empty(parts + 1, np.int64), first[-1] // LANES
    for p in range(len(costs)):
        total += costs[p]
    for part in range(parts + 1):
        ends[part], start = total * part // parts, 0
        for p in range(len(costs)):
            ahead = ends[part] - start
            if 0 < ahead < costs[p]:
                ends[part] += -ahead if 2 * ahead < costs[p] else costs[p] - ahead
            start += costs[p] + (first[p + 1] - first[p]) // LANES
    return ends


@inner
def _multiply(
    words: NDArray[np.int32], bias: Floats, whole: NDArray[np.int16], steps: Floats, sums: Floats, y: Floats, onto: bool
) -> None:
    """Some of the base's rows, see `levels.row_of`, to y, or added `onto` it."""
    for number in range(len(words)):
        o = number * LANES
        sum_ = load(bias, o) + row_of(words[number], whole, steps, sums)
        store(y, o, load(y, o) + sum_ if onto else sum_)


@shared
def adapted(
    x: Floats, linears: Linears, lora: bool, masks: Floats, rows: Floats, y: Floats, onto: bool, parts: int
) -> None:
    """One token through linears that read x [I]: the base's product and what their adapters add to it, plain LoRA only
    where it is on.

    Goes to y [P*O], or is added `onto` it. masks [P, 4, E]: an edit's offset, kept (1 or 0), shift and sharpness.
    rows [P, E+2K] takes logits, ids and weights. Each part of the work makes some of y, or all that an adapter adds.
    """
    words, first, bias, adapter = linears
    router, _, a, _, up, _ = adapter
    routed, adds, top_k = len(router) > 0, len(a) > 0 and (lora or len(router) > 0), 1
    if routed:
        top_k = (rows.shape[1] - a.shape[1]) // 2
    blocks = words.shape[1] // (WORDS * LANES)
    whole, steps, sums = (
        np.empty(blocks * LEVELS_BLOCK, np.int16),
        np.empty(blocks, np.float32),
        np.empty((2, blocks), np.float32),
    )
    quantize(x, whole, steps, sums)
    costs = _costs(linears, adds, top_k)
    ends = _divided(first, costs, parts)
    # what an adapter adds to rows that are not its own part's, and where they begin
    added, others = np.empty(len(y) if adds else 0, np.float32), np.empty(len(costs), np.int64)
    for part in prange(parts):
        begin, end = ends[part], ends[part + 1]
        row, h = np.empty(rows.shape[1], np.float32), np.empty((top_k, a.shape[2]), np.float32)
        ids, start, panel = np.empty(top_k, np.int64), 0, 0
        for p in range(len(first) - 1):
            goes, count = adds and begin <= start < end, (first[p + 1] - first[p]) // LANES
            start += costs[p]
            at, own = first[p] // LANES + max(begin - start, 0), first[p] // LANES + min(end - start, count)
            half = (at + own) // 2 if goes else own
            panels = panel + (count + 1) // 2
            if goes and routed:
                prefetch_rows(router[p])
            if at < half:
                _multiply(words[at:half], bias[at * LANES :], whole, steps, sums, y[at * LANES :], onto)
            if goes:
                _route(x, p, adapter, masks, row, ids)
                _ask(ids, a[p], up, panel)
            if half < own:
                _multiply(words[half:own], bias[half * LANES :], whole, steps, sums, y[half * LANES :], onto)
            if goes:
                _down(x, p, adapter, row, ids, h)
                others[p] = first[p + 1]
                if own < first[p + 1] // LANES:
                    others[p] = first[p] + max(own - first[p] // LANES, 0) // 2 * WIDTH
                added[others[p] : first[p + 1]] = 0
                for number in range(panel, panels):
                    o = first[p] + (number - panel) * WIDTH
                    _up(y if o < others[p] else added, o, min(o + LANES, first[p + 1] - LANES), h, ids, up, number)
                if routed:
                    rows[p] = row
            start, panel = start + count, panels
    if adds:
        for p in range(len(first) - 1):
            for o in range(others[p], first[p + 1], LANES):
                store(y, o, load(y, o) + load(added, o))


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
