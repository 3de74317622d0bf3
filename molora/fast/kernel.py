"""The pieces of one token's way through a decoder on a CPU, and the routing of many, compiled; `compiled.py` puts them
together. What takes longer than a thread to wake is shared by several.

As torch's own functions they are a thousand small calls a token, which cost more than their arithmetic. Compiled with
numba, which needs no compiler on the user's machine; its code is kept on disk until this file changes, so that none of
it may stand in another one.

Where torch holds the numbers, they are told by the address of float32s side by side (`*_at`), since a tensor takes
longer to hand over than to work on. Arrays called narrow are float32, or bfloat16 as uint16, which numpy lacks.

Axes: N tokens, P linears that read one input, E experts, K picked, R rank, I in_features, O out_features of one, H
heads, G key heads, D size of a head.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, config, njit, prange, set_num_threads, types
from numba.extending import intrinsic
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Narrow = NDArray[Any]

_REORDERS = {"reassoc", "contract", "nsz"}
"""Sums may be taken in any order, as in any fast product; infinities count, since edits are made of them."""

_inner = njit(fastmath=_REORDERS, nogil=True)


def _kept(function: Callable[..., Any], *, parallel: bool = False) -> Callable[..., Any]:
    """Compiled, and kept on disk for the next start; only for this one where no folder can be written to."""
    how = partial(njit, fastmath=_REORDERS, nogil=True, parallel=parallel)
    try:
        return how(cache=True)(function)
    except RuntimeError:
        return how()(function)


def _shared(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled twice: for one thread, and for several, where the last argument says that its work has so many parts."""
    alone, twin = _kept(function), FunctionType(function.__code__, function.__globals__)
    twin.__qualname__ = f"{function.__qualname__}_together"  # numba keeps them on disk by this name
    together = _kept(twin, parallel=True)

    def call(*args: Any) -> None:
        if args[-1] == 1:
            alone(*args)
        else:
            set_num_threads(min(args[-1], config.NUMBA_NUM_THREADS))
            together(*args)

    return call


@intrinsic
def _wide(typing_context: Any, value: Any) -> Any:
    """One of a narrow array as float32."""

    def bits(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(32)
        return builder.bitcast(builder.shl(builder.zext(args[0], word), ir.Constant(word, 16)), ir.FloatType())

    def same(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return args[0]

    return types.float32(value), bits if value == types.uint16 else same


@intrinsic
def _bits(typing_context: Any, value: Any) -> Any:
    """The 32 bits of a float32."""

    def cast(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32))

    return types.uint32(types.float32), cast


@intrinsic
def _float_of(typing_context: Any, bits: Any) -> Any:
    """The float32 that has these 32 bits."""

    def cast(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), cast


@intrinsic
def _pointer(typing_context: Any, address: Any) -> Any:
    def cast(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.intp), cast


@_inner
def _floats(address: int, shape: Any) -> Any:
    return carray(_pointer(address), shape, np.float32)


@_inner
def _halves(address: int, shape: Any) -> Any:
    return carray(_pointer(address), shape, np.uint16)


@_inner
def _half(value: np.float32) -> Any:
    """bfloat16's bits, rounded to the nearest, to the even one of two."""
    bits = _bits(value)
    return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


@_inner
def _exp(x: np.float32) -> Any:
    """e to the x, from 1e-38 to 1e38, to 4e-6 of it, 1e-7 from -1 to 1. A call of the library's for each number would
    leave the others of a loop waiting."""
    power = min(max(x * np.float32(1.44269504), np.float32(-126)), np.float32(126))  # of 2
    whole = np.int32(power + np.float32(127.5))  # the nearest, with the exponent's offset of 127
    part = power - np.float32(whole - np.int32(127))  # -0.5 to 0.5
    near = np.float32(1.53375768e-4) * part + np.float32(1.33998604e-3)  # least squares fit of 2 ** part
    near = near * part + np.float32(9.61851953e-3)
    near = near * part + np.float32(5.550329e-2)
    near = near * part + np.float32(0.240226466)
    near = near * part + np.float32(0.693147206)
    return (near * part + np.float32(1)) * _float_of(whole << np.int32(23))


@_inner
def _product(weight: Narrow, x: Floats, h: Floats) -> None:
    """h [R] = weight [R, I] @ x [I], four rows at a time, so that x is read less often."""
    r, rank = 0, weight.shape[0]
    while r + 4 <= rank:
        h0, h1, h2, h3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        for i in range(x.shape[0]):
            h0 += _wide(weight[r, i]) * x[i]
            h1 += _wide(weight[r + 1, i]) * x[i]
            h2 += _wide(weight[r + 2, i]) * x[i]
            h3 += _wide(weight[r + 3, i]) * x[i]
        h[r], h[r + 1], h[r + 2], h[r + 3] = h0, h1, h2, h3
        r += 4
    while r < rank:
        h0 = np.float32(0)
        for i in range(x.shape[0]):
            h0 += _wide(weight[r, i]) * x[i]
        h[r] = h0
        r += 1


@_inner
def _add_rows(y: Floats, h: Floats, b: Narrow) -> None:
    """y [O] += h [R] @ b [R, O], in the same way."""
    r, rank = 0, h.shape[0]
    while r + 4 <= rank:
        h0, h1, h2, h3 = h[r], h[r + 1], h[r + 2], h[r + 3]
        for o in range(y.shape[0]):
            y[o] += h0 * _wide(b[r, o]) + h1 * _wide(b[r + 1, o]) + h2 * _wide(b[r + 2, o]) + h3 * _wide(b[r + 3, o])
        r += 4
    while r < rank:
        for o in range(y.shape[0]):
            y[o] += h[r] * _wide(b[r, o])
        r += 1


@_inner
def _pick(row: Floats, masks: Floats, top_k: int) -> None:
    """What `layers.choose` gives for one router: row [E+2K] holds logits and takes ids and weights; masks [4, E]."""
    offset, kept, shift, sharpness = masks
    experts = offset.shape[0]
    logits, ids, weights = row[:experts], row[experts : experts + top_k], row[experts + top_k :]
    for k in range(top_k):
        best = -1
        for e in range(experts):
            taken = False
            for j in range(k):
                taken |= int(ids[j]) == e
            if not taken and (best < 0 or logits[e] + offset[e] > logits[best] + offset[best]):
                best = e
        ids[k], weights[k] = best, logits[best] + shift[best]
    for k in range(1, top_k):  # strongest first, which they are already where no edit ranks them otherwise
        e, picked, j = ids[k], weights[k], k - 1
        while j >= 0 and weights[j] < picked:
            ids[j + 1], weights[j + 1] = ids[j], weights[j]
            j -= 1
        ids[j + 1], weights[j + 1] = e, picked
    strongest, total = weights[0] * sharpness[0], np.float32(0)
    for k in range(top_k):
        weights[k] = math.exp(weights[k] * sharpness[0] - strongest)
        total += weights[k]
    for k in range(top_k):
        weights[k] /= total
        if kept[int(ids[k])] == 0:
            ids[k], weights[k] = -1, 0


@_kept
def adapted(
    x_at: int,
    base_at: int,
    y_at: int,
    onto: bool,
    bias: Floats,
    lora: tuple[Narrow, Narrow],
    experts: tuple[Floats, Floats, Narrow, Narrow, float],
    masks: Floats,
    rows: Floats,
) -> None:
    """Linears that read x [I]: the base's product, as bfloat16 [P*O] at `base_at`, and what their adapters add to it.

    Goes to y [P*O], or is added `onto` it. bias [P*O]. lora: a [R, I], b [R, P*O], with the scaling in it; rank 0 for
    none. experts: router [P, E, I], its bias [P, E], a [P, E, R, I], b [P, E, R, O], scaling; P of 0 for none. masks
    [P, 4, E]: an edit's offset, kept (1 or 0), shift and sharpness. rows [P, E+2K] takes logits, ids and weights.
    """
    x, y, base = _floats(x_at, lora[0].shape[1]), _floats(y_at, bias.shape[0]), _halves(base_at, bias.shape[0])
    for o in range(bias.shape[0]):
        y[o] = (y[o] if onto else np.float32(0)) + (_wide(base[o]) + bias[o])
    if lora[0].shape[0]:
        h = np.empty(lora[0].shape[0], np.float32)
        _product(lora[0], x, h)
        _add_rows(y, h, lora[1])
    router, router_bias, a, b, scaling = experts
    count, rank, width = a.shape[1], a.shape[2], b.shape[3]
    top_k = (rows.shape[1] - count) // 2
    h = np.empty(rank, np.float32)  # [R]
    for p in range(router.shape[0]):
        _product(router[p], x, rows[p])
        for e in range(count):
            rows[p, e] += router_bias[p, e]
        _pick(rows[p], masks[p], top_k)
        for k in range(count, count + top_k):
            e, gate = int(rows[p, k]), np.float32(rows[p, k + top_k] * scaling)
            if gate != 0:  # an expert switched off must add nothing even where it overflows
                _product(a[p, e], x, h)
                for r in range(rank):
                    h[r] *= gate
                _add_rows(y[p * width : (p + 1) * width], h, b[p, e])


@_inner
def _route(
    x: Narrow, h: NDArray[np.uint16], router: Floats, bias: Floats, scaling: float, masks: Floats, rows: Floats
) -> None:
    """`routed` for some of the tokens."""
    count, top_k = bias.shape[1], (rows.shape[2] - bias.shape[1]) // 2
    read, gates = np.empty(x.shape[1], np.float32), np.empty(count, np.float32)  # [I], [E]
    for n in range(x.shape[0]):
        for i in range(x.shape[1]):
            read[i] = _wide(x[n, i])
        for p in range(bias.shape[0]):
            row = rows[n, p]
            _product(router[p], read, row)
            for e in range(count):
                row[e] += bias[p, e]
                gates[e] = 0
            _pick(row, masks[p], top_k)
            for k in range(count, count + top_k):
                if row[k] >= 0:
                    gates[int(row[k])] = _wide(_half(row[k + top_k] * scaling))
            for e in range(count):
                for r in range(h.shape[3]):
                    h[n, p, e, r] = _half(_wide(h[n, p, e, r]) * gates[e]) if gates[e] != 0 else 0


@_shared
def routed(
    x: Narrow,
    h: NDArray[np.uint16],
    router: Floats,
    bias: Floats,
    scaling: float,
    masks: Floats,
    rows: Floats,
    parts: int,
) -> None:
    """Many tokens x [N, I] through their routers; then what their A's gave, h [N, P, E, R] in bfloat16, takes the gates
    in place: its weight for an expert that is picked, 0 for the others, even where they overflow.

    router [P, E, I], its bias [P, E], masks and rows, here [N, P, E+2K], as in `adapted`.
    """
    for part in prange(parts):
        own = slice(len(x) * part // parts, len(x) * (part + 1) // parts)
        _route(x[own], h[own], router, bias, scaling, masks, rows[own])


@_kept
def normed(x_at: int, weight: Floats, eps: float, y_at: int, halves_at: int) -> None:
    """RMSNorm of x [I] in float32, and the same in bfloat16."""
    size = weight.shape[0]
    x, y, halves = _floats(x_at, size), _floats(y_at, size), _halves(halves_at, size)
    total = np.float32(0)
    for i in range(size):
        total += x[i] * x[i]
    scale = np.float32(1 / math.sqrt(total / size + eps))
    for i in range(size):
        y[i] = x[i] * scale * weight[i]
        halves[i] = _half(y[i])


@_kept
def gated(both_at: int, size: int, y_at: int, halves_at: int) -> None:
    """silu(gate) * up of the two side by side [2*size], in float32 and in bfloat16."""
    both, y, halves = _floats(both_at, 2 * size), _floats(y_at, size), _halves(halves_at, size)
    for i in range(size):
        y[i] = both[i] / (np.float32(1) + _exp(-both[i])) * both[size + i]
        halves[i] = _half(y[i])


@_kept
def turned(
    states_at: int, cos: Floats, sin: Floats, heads: int, groups: int, query_at: int, kept_at: int, room: int, at: int
) -> None:
    """Queries, keys and values side by side [H+2G, D]: turns the first two to a position, where cosines and signed
    sines are [D]; queries go to [H, D], keys and values to place `at` of a cache of [2, G, room, D]."""
    size, half = cos.shape[0], cos.shape[0] // 2
    states = _floats(states_at, (heads + 2 * groups, size))
    query, kept = _floats(query_at, (heads, size)), _floats(kept_at, (2 * groups, room, size))
    for head in range(heads + groups):
        target = query[head] if head < heads else kept[head - heads, at]
        for d in range(half):
            one, other = states[head, d], states[head, d + half]
            target[d] = one * cos[d] + other * sin[d]
            target[d + half] = other * cos[d + half] + one * sin[d + half]
    for head in range(groups):
        for d in range(size):
            kept[groups + head, at, d] = states[heads + groups + head, d]


@_inner
def _weights(query: Floats, keys: Floats, scale: float, weights: Floats, sums: Floats) -> None:
    """How much queries [Q, D] of one key head attend to T tokens: weights [Q, T], not yet divided by their sum; sums
    [2, Q] take the largest score and that sum."""
    count, total = weights.shape
    for t in range(total):
        for q in range(count):
            score = np.float32(0)
            for d in range(query.shape[1]):
                score += query[q, d] * keys[t, d]
            weights[q, t] = score * scale
    for q in range(count):
        largest, whole = weights[q, 0], np.float32(0)
        for t in range(1, total):
            largest = max(largest, weights[q, t])
        for t in range(total):
            weights[q, t] = _exp(weights[q, t] - largest)
            whole += weights[q, t]
        sums[0, q], sums[1, q] = largest, whole


@_inner
def _weighted(weights: Floats, values: Floats, y: Floats) -> None:
    """y [Q, D] = weights [Q, T] @ values [T, D], four tokens at a time, all queries at once, so that values are read
    from memory once."""
    (count, total), size = weights.shape, values.shape[1]
    y[:] = 0
    t = 0
    while t + 4 <= total:
        for q in range(count):
            w0, w1, w2, w3 = weights[q, t], weights[q, t + 1], weights[q, t + 2], weights[q, t + 3]
            for d in range(size):
                y[q, d] += w0 * values[t, d] + w1 * values[t + 1, d] + w2 * values[t + 2, d] + w3 * values[t + 3, d]
        t += 4
    while t < total:
        for q in range(count):
            for d in range(size):
                y[q, d] += weights[q, t] * values[t, d]
        t += 1


@_inner
def _joined(found: Floats, sums: Floats, y: Floats) -> None:
    """What one query found in each of the parts, [parts, D], to y [D], by sums [parts, 2]."""
    largest, whole = sums[0, 0], np.float32(0)
    for part in range(1, len(found)):
        largest = max(largest, sums[part, 0])
    y[:] = 0
    for part in range(len(found)):
        weight = _exp(sums[part, 0] - largest)
        whole += weight * sums[part, 1]
        for d in range(y.shape[0]):
            y[d] += weight * found[part, d]
    for d in range(y.shape[0]):
        y[d] /= whole


@_shared
def attended(
    query: Floats,
    scale: float,
    keys_at: int,
    values_at: int,
    shape: tuple[int, int, int],
    y_at: int,
    halves_at: int,
    parts: int,
) -> None:
    """Attention of one token, queries [H, D], to the first T of the tokens that keys and values [G, room, D] have room
    for: y [H, D] in float32 and in bfloat16. `shape`: G, room and T. Each part of the work sees some of the tokens."""
    (heads, size), (groups, room, total), each = query.shape, shape, query.shape[0] // shape[0]
    keys, values = _floats(keys_at, (groups, room, size)), _floats(values_at, (groups, room, size))
    y, halves = _floats(y_at, (heads, size)), _halves(halves_at, (heads, size))
    found, sums = np.empty((parts, heads, size), np.float32), np.empty((parts, 2, heads), np.float32)
    for job in prange(parts * groups):
        part, g = job // groups, job % groups
        first, last, own = total * part // parts, total * (part + 1) // parts, slice(g * each, (g + 1) * each)
        weights = np.empty((each, last - first), np.float32)
        _weights(query[own], keys[g, first:last], scale, weights, sums[part, :, own])
        _weighted(weights, values[g, first:last], found[part, own])
    for head in range(heads):
        _joined(found[:, head], sums[:, :, head], y[head])
        for d in range(size):
            halves[head, d] = _half(y[head, d])
