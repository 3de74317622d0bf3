"""The pieces of one token's way through a decoder layer, attention apart."""

from __future__ import annotations

import math

import numpy as np
from numba import prange
from numpy.typing import NDArray

from molora.fast.kernel.keeping import inner, kept, shared
from molora.fast.kernel.lanes import LANES, Floats, Narrow, load, silu, spread, store, total
from molora.fast.kernel.levels import LEVELS_BLOCK, WORDS, quantize, row_of
from molora.fast.kernel.numbers import float_array, half, half_array
from molora.fast.kernel.picks import pick
from molora.fast.kernel.products import add_rows, product
from molora.fast.kernel.shares import chunks_of, holder

Experts = tuple[Narrow, Floats, Narrow, Narrow, float]


@inner
def _down(x: Floats, p: int, experts: Experts, masks: Floats, row: Floats, h: Floats) -> None:
    """What one router picks, row [E+2K], and h [K, R]: x [I] in the ranks of those, weighed."""
    router, bias, a, _, scaling = experts
    count, top_k = a.shape[1], h.shape[0]
    product(router[p], x, row)
    for e in range(count):
        row[e] += bias[p, e]
    pick(row.reshape(1, -1), 0, masks, top_k)
    for k in range(top_k):
        e, gate = int(row[count + k]), np.float32(row[count + top_k + k] * scaling)
        if gate == 0:  # an expert switched off must add nothing even where it overflows
            h[k] = 0
            continue
        product(a[p, e], x, h[k])
        for r in range(h.shape[1]):
            h[k, r] *= gate


@inner
def _up(y: Floats, h: Floats, b: Narrow, here: int, first: int, last: int) -> None:
    """y [O], results from `first` to `last`, += h [R] @ b [R, ...], whose results begin `here`; those that are both."""
    first, last = max(first, here), min(last, here + b.shape[1])
    if first < last:
        add_rows(y[first:last], h, b[:, first - here : last - here])


@shared
def adapted(
    x_at: int,
    words: NDArray[np.int32],
    base_at: int,
    y_at: int,
    onto: bool,
    bias: Floats,
    lora: tuple[Narrow, Narrow, NDArray[np.int64]],
    experts: Experts,
    masks: Floats,
    rows: Floats,
    parts: int,
) -> None:
    """Linears that read x [I]: the base's product, of words as in `levels.multiplied` or, where there are none, already
    made as bfloat16 [P*O] at `base_at`; and what their adapters add to it.

    Goes to y [P*O], or is added `onto` it. bias [P*O]. lora: a [P*R, I], b [R, P*O] with the scaling in it, and where
    each linear's results begin [P+1]; no rows for none. experts: router [P, E, I], its bias [P, E], a [P, E, R, I],
    b [P, E, R, O], scaling; P of 0 for none. masks [P, 4, E]: an edit's offset, kept (1 or 0), shift and sharpness.
    rows [P, E+2K] takes logits, ids and weights. Each part of the work makes some of y.
    """
    width, size = bias.shape[0], lora[0].shape[1]
    x, y, base = float_array(x_at, size), float_array(y_at, width), half_array(base_at, width)
    down, up, first = lora
    _, _, a, b, scaling = experts
    count, top_k = a.shape[1], (rows.shape[1] - a.shape[1]) // 2
    blocks = words.shape[1] // (WORDS * LANES)
    whole, steps, sums = (
        np.empty(blocks * LEVELS_BLOCK, np.int16),
        np.empty(blocks, np.float32),
        np.empty((2, blocks), np.float32),
    )
    if blocks:
        quantize(x, whole, steps, sums)
    groups = width // LANES
    for part in prange(parts):
        own, end = groups * part // parts * LANES, groups * (part + 1) // parts * LANES
        for o in range(own, end, LANES):
            sum_ = load(bias, o) + (row_of(words[o // LANES], whole, steps, sums) if blocks else load(base, o))
            store(y, o, load(y, o) + sum_ if onto else sum_)
        # each part goes down for itself where it goes up: that takes less than to wait for another one
        low = np.empty(up.shape[0], np.float32)
        for p in range(len(first) - 1):
            if up.shape[0] and first[p] < end and own < first[p + 1]:
                product(down[p * up.shape[0] : (p + 1) * up.shape[0]], x, low)
                _up(y, low, up[:, first[p] : first[p + 1]], first[p], own, end)
        row, h = np.empty(rows.shape[1], np.float32), np.empty((top_k, a.shape[2]), np.float32)
        for p in range(a.shape[0]):
            begin = p * b.shape[3]
            if begin < end and own < begin + b.shape[3]:
                _down(x, p, experts, masks[p], row, h)
                for k in range(top_k):
                    if row[count + top_k + k] * scaling != 0:
                        _up(y, h[k], b[p, int(row[count + k])], begin, own, end)
                if own <= begin:
                    rows[p] = row


@kept
def normed(x_at: int, weight: Floats, eps: float, y_at: int, halves_at: int) -> None:
    """RMSNorm of x [I] in float32, and the same in bfloat16."""
    size = weight.shape[0]
    x, y, halves = float_array(x_at, size), float_array(y_at, size), half_array(halves_at, size)
    squares = np.float32(0)
    for i in range(size):
        squares += x[i] * x[i]
    scale = np.float32(1 / math.sqrt(squares / size + eps))
    for i in range(size):
        y[i] = x[i] * scale * weight[i]
        halves[i] = half(y[i])


@inner
def norm_row(x: Floats, weight: Floats, eps: float, y: Floats) -> None:
    """The same in float32 alone."""
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


@kept
def gated(both_at: int, size: int, y_at: int, halves_at: int) -> None:
    """silu(gate) * up of the two side by side [2*size], in float32 and in bfloat16."""
    both, y, halves = float_array(both_at, 2 * size), float_array(y_at, size), half_array(halves_at, size)
    for i in range(0, size, LANES):
        inner = silu(load(both, i)) * load(both, size + i)
        store(y, i, inner)
        store(halves, i, inner)


@kept
def turned(
    states_at: int, cos: Floats, sin: Floats, heads: int, groups: int, query_at: int, kept_at: int, room: int, at: int
) -> None:
    """Queries, keys and values side by side [H+2G, D]: turns the first two to a position, where cosines and signed
    sines are [D]; queries go to [H, D], keys and values to place `at` of a cache of [2, G, room, D]."""
    size, half = cos.shape[0], cos.shape[0] // 2
    states = float_array(states_at, (heads + 2 * groups, size))
    query, kept = float_array(query_at, (heads, size)), float_array(kept_at, (2 * groups, room, size))
    for head in range(heads + groups):
        target = query[head] if head < heads else kept[head - heads, at]
        for d in range(half):
            one, other = states[head, d], states[head, d + half]
            target[d] = one * cos[d] + other * sin[d]
            target[d + half] = other * cos[d + half] + one * sin[d + half]
    for head in range(groups):
        for d in range(size):
            kept[groups + head, at, d] = states[heads + groups + head, d]
