"""The pieces of one token's way through a decoder layer, attention apart."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from molora.fast.kernel.keeping import kept
from molora.fast.kernel.lanes import LANES, Floats, Narrow, load, silu, store
from molora.fast.kernel.numbers import float_array, half, half_array, wide
from molora.fast.kernel.picks import pick
from molora.fast.kernel.products import add_rows, product


@kept
def adapted(
    x_at: int,
    base_at: int,
    y_at: int,
    onto: bool,
    bias: Floats,
    lora: tuple[Narrow, Narrow, NDArray[np.int64]],
    experts: tuple[Narrow, Floats, Narrow, Narrow, float],
    masks: Floats,
    rows: Floats,
) -> None:
    """Linears that read x [I]: the base's product, as bfloat16 [P*O] at `base_at`, and what their adapters add to it.

    Goes to y [P*O], or is added `onto` it. bias [P*O]. lora: a [P*R, I], b [R, P*O] with the scaling in it, and where
    each linear's results begin [P+1]; no rows for none. experts: router [P, E, I], its bias [P, E], a [P, E, R, I],
    b [P, E, R, O], scaling; P of 0 for none. masks [P, 4, E]: an edit's offset, kept (1 or 0), shift and sharpness.
    rows [P, E+2K] takes logits, ids and weights.
    """
    x, y, base = (
        float_array(x_at, lora[0].shape[1]),
        float_array(y_at, bias.shape[0]),
        half_array(base_at, bias.shape[0]),
    )
    for o in range(bias.shape[0]):
        y[o] = (y[o] if onto else np.float32(0)) + (wide(base[o]) + bias[o])
    down, up, first = lora
    if down.shape[0]:
        rank, h = up.shape[0], np.empty(down.shape[0], np.float32)
        product(down, x, h)
        for p in range(len(first) - 1):
            own = slice(first[p], first[p + 1])
            add_rows(y[own], h[p * rank : (p + 1) * rank], up[:, own])
    router, router_bias, a, b, scaling = experts
    count, rank, width = a.shape[1], a.shape[2], b.shape[3]
    top_k = (rows.shape[1] - count) // 2
    h = np.empty(rank, np.float32)  # [R]
    for p in range(router.shape[0]):
        product(router[p], x, rows[p])
        for e in range(count):
            rows[p, e] += router_bias[p, e]
        pick(rows[p], masks[p], top_k)
        for k in range(count, count + top_k):
            e, gate = int(rows[p, k]), np.float32(rows[p, k + top_k] * scaling)
            if gate != 0:  # an expert switched off must add nothing even where it overflows
                product(a[p, e], x, h)
                for r in range(rank):
                    h[r] *= gate
                add_rows(y[p * width : (p + 1) * width], h, b[p, e])


@kept
def normed(x_at: int, weight: Floats, eps: float, y_at: int, halves_at: int) -> None:
    """RMSNorm of x [I] in float32, and the same in bfloat16."""
    size = weight.shape[0]
    x, y, halves = float_array(x_at, size), float_array(y_at, size), half_array(halves_at, size)
    total = np.float32(0)
    for i in range(size):
        total += x[i] * x[i]
    scale = np.float32(1 / math.sqrt(total / size + eps))
    for i in range(size):
        y[i] = x[i] * scale * weight[i]
        halves[i] = half(y[i])


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
