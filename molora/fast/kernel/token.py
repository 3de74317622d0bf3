"""The pieces of one token's way through a decoder layer, attention apart."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from molora.fast.kernel.division import costs_of, divided
from molora.fast.kernel.keeping import inner, kept
from molora.fast.kernel.lanes import LANES, Floats, Narrow, load, silu, spread, store, total
from molora.fast.kernel.layers import Linears
from molora.fast.kernel.levels import LEVELS_BLOCK, WORDS, quantize, row_of
from molora.fast.kernel.numbers import put
from molora.fast.kernel.parallel import share
from molora.fast.kernel.picked import ask_for, go_down, go_up, route
from molora.fast.kernel.prefetching import prefetch_rows
from molora.fast.kernel.several import WIDTH
from molora.fast.kernel.shares import chunks_of, holder


@inner
def _multiply(
    words: NDArray[np.int32],
    bias: Floats,
    read: tuple[NDArray[np.int16], Floats, Floats],
    begin: int,
    end: int,
    y: Floats,
    onto: bool,
) -> None:
    """Some of the base's registers of rows, see `levels.row_of`, to y, or added `onto` it."""
    for number in range(begin, end):
        sum_ = load(bias, number * LANES) + row_of(words[number], *read)
        store(y, number * LANES, load(y, number * LANES) + sum_ if onto else sum_)


@inner
def _adapt_some(
    part: int,
    parts: int,
    x: Floats,
    linears: Linears,
    routed: bool,
    adds: bool,
    read: tuple[NDArray[np.int16], Floats, Floats],
    costs: NDArray[np.int64],
    ends: NDArray[np.int64],
    masks: Floats,
    rows: Floats,
    added: Floats,
    others: NDArray[np.int64],
    y: Floats,
    onto: bool,
) -> None:
    """What `added` takes goes to rows that another part makes, which begin where `others` says [P]."""
    (words, first, bias, adapter), begin, end, start, panel = linears, ends[part], ends[part + 1], 0, 0
    router, _, a, _, up, _ = adapter
    top_k = (rows.shape[1] - a.shape[1]) // 2 if routed else 1
    row, h = np.empty(rows.shape[1], np.float32), np.empty((top_k, a.shape[2]), np.float32)
    ids = np.empty(top_k, np.int64)
    for p in range(len(first) - 1):
        base, registers = first[p] // LANES, (first[p + 1] - first[p]) // LANES
        last, goes = panel + (registers + 1) // 2, adds and begin <= start < end
        start += costs[p]
        at, own = max(begin - start, 0), min(max(end - start, 0), registers)
        half = (at + own) // 2 if goes else own
        if goes and routed:
            prefetch_rows(router[p])
        _multiply(words, bias, read, base + at, base + half, y, onto)
        if goes:
            route(x, p, adapter, masks, row, ids)
            ask_for(ids, a[p], up, panel)
        _multiply(words, bias, read, base + half, base + own, y, onto)
        if goes:
            go_down(x, p, adapter, row, ids, h)
            others[p] = first[p + 1] if own == registers else first[p] + own // 2 * WIDTH
            added[others[p] : first[p + 1]] = 0
            for number in range(panel, last):
                o = first[p] + (number - panel) * WIDTH
                go_up(y if o < others[p] else added, o, min(o + LANES, first[p + 1] - LANES), h, ids, up, number)
            for n in range(len(row) if routed else 0):
                rows[p, n] = row[n]
        start, panel = start + registers, last


@kept
def adapted(
    x: Floats, linears: Linears, lora: bool, masks: Floats, rows: Floats, y: Floats, onto: bool, parts: int
) -> None:
    """One token through linears that read x [I]: the base's product and what their adapters add to it, plain LoRA only
    where it is on.

    Goes to y [P*O], or is added `onto` it. masks [P, 4, E]: an edit's offset, kept (1 or 0), shift and sharpness.
    rows [P, E+2K] takes logits, ids and weights. Each part of the work makes some of y; what an adapter adds is one
    part's, since a second one would read as much again to go down.
    """
    words, first, _, adapter = linears
    router, _, a, _, _, _ = adapter
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
    read, costs = (whole, steps, sums), costs_of(linears, adds, top_k)
    ends = divided(first, costs, parts)
    # what an adapter adds to rows that another part makes, and where these begin
    added, others = np.empty(len(y) if adds else 0, np.float32), np.empty(len(costs), np.int64)
    share(_adapt_some, parts, x, linears, routed, adds, read, costs, ends, masks, rows, added, others, y, onto)
    for p in range(len(costs) if adds else 0):
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


@inner
def _norm_some(part: int, parts: int, x: Floats, weight: Floats, eps: float, y: Floats) -> None:
    ends = chunks_of(len(x), parts)
    for chunk in range(len(ends) - 1):
        if holder(chunk, parts) == part:
            for n in range(ends[chunk], ends[chunk + 1]):
                norm_row(x[n], weight, eps, y[n])


@kept
def all_normed(x: Floats, weight: Floats, eps: float, y: Floats, parts: int) -> None:
    """The same of many, x [N, I]."""
    share(_norm_some, parts, x, weight, eps, y)


@inner
def gated(both: Floats, y: Floats) -> None:
    """y [M]: silu(gate) * up of the two side by side [2*M]."""
    for i in range(0, len(y), LANES):
        store(y, i, silu(load(both, i)) * load(both, len(y) + i))


@inner
def _turn(row: Floats, cos: Floats, sin: Floats, to: Narrow) -> None:
    """One head's [D]."""
    half = cos.shape[0] // 2
    for d in range(half):
        one, other = row[d], row[d + half]
        put(to, d, one * cos[d] + other * sin[d])
        put(to, d + half, other * cos[d + half] + one * sin[d + half])


@inner
def turned(states: Floats, cos: Floats, sin: Floats, query: Floats, kept: Narrow, at: int) -> None:
    """Queries, keys and values side by side [H+2G, D]: turns the first two to a position, where cosines and signed
    sines are [D]; queries go to [H, D], keys and values to place `at` of a cache of [2*G, room, D]."""
    heads, groups = len(query), len(kept) // 2
    for head in range(heads):
        _turn(states[head], cos, sin, query[head])
    for group in range(groups):
        _turn(states[heads + group], cos, sin, kept[group, at])
        for d in range(cos.shape[0]):
            put(kept[groups + group, at], d, states[heads + groups + group, d])
