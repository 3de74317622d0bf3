"""A prompt's way down into an expert's ranks and up again, in float32 or, where all is bfloat16, by pairs.

What is called here `room` holds weights as the products take them. A rank has pairs only if it is even.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload
from numpy.typing import NDArray

from molora.fast.kernel.dots import ROWS, TOKENS, dots
from molora.fast.kernel.keeping import REORDERS, inner
from molora.fast.kernel.lanes import LANES, Floats, Narrow, load, spread, spread_one, store, total
from molora.fast.kernel.pairs import PAIRED, braided, dot, load_pairs, spread_pair, store_pairs
from molora.fast.kernel.products import product

_NEAR = 768
_ROWS = 8
"""Inputs of so many rows, and of some tokens, that stay in a core's first cache"""

TILE = 4 * LANES
"""Results of one token that are worked on at once."""


def _halves(*arrays: Any) -> bool:
    return all(array.dtype == types.uint16 for array in arrays)


def _by_kind(function: Callable[..., Any]) -> Callable[..., Any]:
    """For compiled code to call: what the function makes of the types is what is compiled for them."""

    def called(*args: Any) -> Any:
        raise TypeError(f"{function.__name__} is for compiled code to call")

    called.__name__ = function.__name__
    overload(called, strict=False, jit_options={"fastmath": set(REORDERS), "nogil": True})(function)
    return called


@inner
def room(rows: int, columns: int) -> Floats:
    """For a matrix whose registers' worths do not lie across lines of the CPU's cache."""
    whole = np.empty(rows * columns + 16, np.float32)
    first = -(whole.ctypes.data // 4) % 16
    return whole[first : first + rows * columns].reshape(rows, columns)


@inner
def narrow_room(rows: int, columns: int) -> Narrow:
    """The same for bfloat16; columns are even."""
    return room(rows, columns // 2).view(np.uint16)


@inner
def widen(narrow: Narrow, floats: Floats) -> None:
    for r in range(narrow.shape[0]):
        for i in range(0, narrow.shape[1], LANES):
            store(floats[r], i, load(narrow[r], i))


@_by_kind
def h_room(shape: Any, like: Any, b: Any) -> Any:
    """For what lies between the ways down and up."""
    if _halves(like, b):
        return lambda shape, like, b: np.empty(shape, np.uint16)
    return lambda shape, like, b: np.empty(shape, np.float32)


@_by_kind
def down_room(x: Any, weight: Any) -> Any:
    """For a part of a weight [..., I] on the way down; none where it is read as it is."""
    if _halves(x, weight):
        return lambda x, weight: np.empty((0, 0), np.float32)
    return lambda x, weight: room(_ROWS, min(_NEAR, weight.shape[-1]))


@_by_kind
def go_down(weight: Any, x: Any, tokens: Any, h: Any, down: Any) -> Any:
    """h [M, R or more] = weight [R, I], A or a router, @ x [N, I], of the tokens [M]."""
    return _pairs_down if _halves(weight, x) else _floats_down


def _floats_down(weight: Narrow, x: Narrow, tokens: NDArray[np.int64], h: Floats, down: Floats) -> None:
    (rank, size), count = weight.shape, len(tokens)
    even = rank - rank % ROWS
    for m in range(count):
        for r in range(even):
            h[m, r] = 0
    for first in range(0, even, _ROWS):
        last = min(first + _ROWS, even)
        for i in range(0, size, _NEAR):
            end = min(i + _NEAR, size)
            widen(weight[first:last, i:end], down)
            for m in range(0, count, TOKENS):
                for r in range(first, last, ROWS):
                    dots(down, r - first, x, i, end, tokens, m, h, r)
    if even < rank:
        for m in range(count):
            product(weight[even:], x[tokens[m]], h[m, even:])


def _pairs_down(weight: Narrow, x: Narrow, tokens: NDArray[np.int64], h: Floats, down: Floats) -> None:
    last = len(tokens) - 1
    for m in range(0, len(tokens), 2):
        n = min(m + 1, last)  # a last one alone goes with itself
        _two_down(weight, x[tokens[m]], x[tokens[n]], h[m], h[n])


@inner
def _two_down(weight: Narrow, x: Narrow, other: Narrow, h: Floats, other_h: Floats) -> None:
    r, rank, zero = 0, weight.shape[0], spread(np.float32(0))
    even = x.shape[0] - x.shape[0] % PAIRED
    while r + 4 <= rank:
        s0, s1, s2, s3, t0, t1, t2, t3 = zero, zero, zero, zero, zero, zero, zero, zero
        for i in range(0, even, PAIRED):
            v, w = load_pairs(x, i), load_pairs(other, i)
            one, two = load_pairs(weight[r], i), load_pairs(weight[r + 1], i)
            s0, t0 = dot(s0, one, v), dot(t0, one, w)
            s1, t1 = dot(s1, two, v), dot(t1, two, w)
            one, two = load_pairs(weight[r + 2], i), load_pairs(weight[r + 3], i)
            s2, t2 = dot(s2, one, v), dot(t2, one, w)
            s3, t3 = dot(s3, two, v), dot(t3, two, w)
        for i in range(even, x.shape[0], LANES):
            p, q = load(x, i), load(other, i)
            s0 += load(weight[r], i) * p
            t0 += load(weight[r], i) * q
            s1 += load(weight[r + 1], i) * p
            t1 += load(weight[r + 1], i) * q
            s2 += load(weight[r + 2], i) * p
            t2 += load(weight[r + 2], i) * q
            s3 += load(weight[r + 3], i) * p
            t3 += load(weight[r + 3], i) * q
        h[r], h[r + 1], h[r + 2], h[r + 3] = total(s0), total(s1), total(s2), total(s3)
        other_h[r], other_h[r + 1], other_h[r + 2], other_h[r + 3] = total(t0), total(t1), total(t2), total(t3)
        r += 4
    if r < rank:
        product(weight[r:], x, h[r:])
        product(weight[r:], other, other_h[r:])


@_by_kind
def up_room(h: Any, b: Any) -> Any:
    """For one tile of all experts' B's, b [E, R, O]: [E*R, tile], or pairs of ranks braided [E*R/2, 2*tile]."""
    if _halves(h):
        return lambda h, b: room(b.shape[0] * b.shape[1] // 2, TILE).view(np.uint16)
    return lambda h, b: room(b.shape[0] * b.shape[1], TILE)


@_by_kind
def lay_up(weight: Any, up: Any) -> Any:
    """B's there [E*R, tile] into the room."""
    return _braid if _halves(up) else widen.py_func


def _braid(weight: Narrow, up: Narrow) -> None:
    for r in range(up.shape[0]):
        for i in range(0, TILE, LANES):
            store_pairs(up[r], 2 * i, braided(weight[2 * r], weight[2 * r + 1], i))


@_by_kind
def go_up(y: Any, o: Any, h: Any, ids: Any, up: Any, rank: Any) -> Any:
    """One tile of y [N, O] += what h [N, K*R] gives through the room. For all tokens in one call: each takes less time
    than a call, in which arrays are counted as held and let go."""
    return _pairs_up if _halves(h) else _floats_up


def _floats_up(y: Narrow, o: int, h: Floats, ids: Floats, up: Floats, rank: int) -> None:
    o1, o2, o3, flat = o + LANES, o + 2 * LANES, o + 3 * LANES, up.reshape(-1)
    for n in range(len(y)):
        own, low = y[n], h[n]
        s0, s1, s2, s3 = load(own, o), load(own, o1), load(own, o2), load(own, o3)
        for k in range(ids.shape[1]):
            at = max(int(ids[n, k]), 0) * rank * TILE  # for one switched off h is 0
            for r in range(rank):
                v = spread_one(low, k * rank + r)
                s0 += load(flat, at) * v
                s1 += load(flat, at + LANES) * v
                s2 += load(flat, at + 2 * LANES) * v
                s3 += load(flat, at + 3 * LANES) * v
                at += TILE
        store(own, o, s0)
        store(own, o1, s1)
        store(own, o2, s2)
        store(own, o3, s3)


def _pairs_up(y: Narrow, o: int, h: Narrow, ids: Floats, up: Narrow, rank: int) -> None:
    o1, o2, o3, flat = o + LANES, o + 2 * LANES, o + 3 * LANES, up.reshape(-1)
    for n in range(len(y)):
        own, low = y[n], h[n]
        s0, s1, s2, s3 = load(own, o), load(own, o1), load(own, o2), load(own, o3)
        for k in range(ids.shape[1]):
            at = max(int(ids[n, k]), 0) * rank * TILE
            for r in range(0, rank, 2):
                v = spread_pair(low, k * rank + r)
                s0 = dot(s0, load_pairs(flat, at), v)
                s1 = dot(s1, load_pairs(flat, at + PAIRED), v)
                s2 = dot(s2, load_pairs(flat, at + 2 * PAIRED), v)
                s3 = dot(s3, load_pairs(flat, at + 3 * PAIRED), v)
                at += 2 * TILE
        store(own, o, s0)
        store(own, o1, s1)
        store(own, o2, s2)
        store(own, o3, s3)
