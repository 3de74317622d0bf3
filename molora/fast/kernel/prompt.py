"""Many tokens through the experts that their routers pick, and through no other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from molora.fast.kernel.keeping import inner, shared
from molora.fast.kernel.lanes import LANES, Floats, Narrow, ahead, load, silu, spread, store
from molora.fast.kernel.numbers import narrow_array
from molora.fast.kernel.picks import pick
from molora.fast.kernel.products import products

_TILE = 4 * LANES
"""Results of one token that are worked on at once."""
_AHEAD = 6
"""Tokens from the one at work to the one that is fetched."""


@inner
def _by_expert(rows: Floats, count: int, top_k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Slots of rows [N, E+2K], numbered n*K + k, with those of the first expert first; and where each one's begin
    [E+1]. One that an edit switches off is none's."""
    first = np.zeros(count + 2, np.int64)
    for n in range(len(rows)):
        for k in range(count, count + top_k):
            first[int(rows[n, k]) + 2] += int(rows[n, k]) >= 0
    for e in range(count):
        first[e + 2] += first[e + 1]
    slots = np.empty(first[count + 1], np.int64)
    for n in range(len(rows)):
        for k in range(top_k):
            e = int(rows[n, count + k])
            if e >= 0:
                slots[first[e + 1]] = n * top_k + k
                first[e + 1] += 1
    return slots, first[: count + 1]


@inner
def _room(rows: int, columns: int) -> Floats:
    """For a matrix whose registers' worths do not lie across lines of the CPU's cache."""
    room = np.empty(rows * columns + 16, np.float32)
    first = -(room.ctypes.data // 4) % 16
    return room[first : first + rows * columns].reshape(rows, columns)


@inner
def _widen(narrow: Narrow, floats: Floats) -> None:
    for r in range(narrow.shape[0]):
        for i in range(0, narrow.shape[1], LANES):
            store(floats[r], i, load(narrow[r], i))


@inner
def _route(x: Narrow, router: Narrow, bias: Floats, masks: Floats, rows: Floats) -> None:
    """One router's logits for tokens x [N, I], and what it picks, to rows [N, E+2K]."""
    count, last = bias.shape[0], len(x) - 1
    floats, top_k = _room(count, router.shape[1]), (rows.shape[1] - count) // 2
    _widen(router, floats)
    for n in range(0, len(x), 2):
        m = min(n + 1, last)  # a last one alone goes with itself
        products(floats, x[n], x[m], rows[n], rows[m])
    for n in range(len(x)):
        for e in range(count):
            rows[n, e] += bias[e]
        pick(rows[n], masks, top_k)


@inner
def _into(x: Narrow, a: Narrow, scaling: float, rows: Floats, h: Floats) -> None:
    """h [N, K*R]: what each token's experts make of it, with their weights on it. Tokens that share an expert, a [E, R,
    I], go into it two by two."""
    count, rank = a.shape[0], a.shape[1]
    top_k = h.shape[1] // rank
    slots, first = _by_expert(rows, count, top_k)
    h, down = h.reshape(-1, rank), _room(rank, a.shape[2])  # [N*K, R]
    h[:] = 0
    for e in range(count):
        if first[e] < first[e + 1]:
            _widen(a[e], down)
        for at in range(first[e], first[e + 1], 2):
            one, other = slots[at], slots[min(at + 1, first[e + 1] - 1)]
            products(down, x[one // top_k], x[other // top_k], h[one], h[other])
    for n in range(len(rows)):
        for k in range(top_k):
            gate = np.float32(rows[n, count + top_k + k] * scaling)
            for r in range(rank):  # an expert without weight must add nothing even where it overflows
                h[n * top_k + k, r] = h[n * top_k + k, r] * gate if gate != 0 else 0


@inner
def _tile(y: Narrow, o: int, h: Floats, ids: Floats, up: Floats, rank: int) -> Any:
    """One tile of y [O], and what h [K*R] adds to it by way of the experts' B's there, up [E*R, tile]."""
    s0, s1, s2, s3 = load(y, o), load(y, o + LANES), load(y, o + 2 * LANES), load(y, o + 3 * LANES)
    for k in range(ids.shape[0]):
        first = int(ids[k]) * rank if ids[k] >= 0 else 0  # for one switched off h is 0
        for r in range(rank):
            v, row = spread(h[k * rank + r]), up[first + r]
            s0 += load(row, 0) * v
            s1 += load(row, LANES) * v
            s2 += load(row, 2 * LANES) * v
            s3 += load(row, 3 * LANES) * v
    return s0, s1, s2, s3


@inner
def _fetch(y: Narrow, n: int, o: int) -> None:
    """A tile of y [N, O] on its way into the cache: the CPU foresees a row's next number, not the next row's."""
    if n < len(y):
        for i in range(o, o + _TILE, LANES):
            ahead(y[n], i)


@inner
def _rest(y: Narrow, o: int, h: Floats, ids: Floats, b: Narrow) -> Any:
    """The same for what is less than a tile, by b [E, R, O] itself."""
    rank, s = b.shape[1], load(y, o)
    for k in range(ids.shape[0]):
        for r in range(rank):
            s += load(b[int(max(ids[k], 0)), r], o) * spread(h[k * rank + r])
    return s


@inner
def _add(y: Narrow, h: Floats, ids: Floats, b: Narrow) -> None:
    """y [N, O] += what h [N, K*R] gives through the experts' b [E, R, O]."""
    rank, even = b.shape[1], y.shape[1] - y.shape[1] % _TILE
    up = _room(b.shape[0] * rank, _TILE)
    for o in range(0, even, _TILE):
        _widen(b.reshape(-1, b.shape[2])[:, o : o + _TILE], up)
        for n in range(len(y)):
            _fetch(y, n + _AHEAD, o)
            s0, s1, s2, s3 = _tile(y[n], o, h[n], ids[n], up, rank)
            store(y[n], o, s0)
            store(y[n], o + LANES, s1)
            store(y[n], o + 2 * LANES, s2)
            store(y[n], o + 3 * LANES, s3)
    for n in range(len(y)):
        for o in range(even, y.shape[1], LANES):
            store(y[n], o, _rest(y[n], o, h[n], ids[n], b))


@inner
def _gate(y: Narrow, by: Narrow, h: Floats, ids: Floats, b: Narrow) -> None:
    """y [N, O] = silu(y) * by, each with what h [2, N, K*R] adds to it, as in `_add`; by stays."""
    rank, even = b.shape[2], y.shape[1] - y.shape[1] % _TILE
    one, other = _room(b.shape[1] * rank, _TILE), _room(b.shape[1] * rank, _TILE)
    for o in range(0, even, _TILE):
        _widen(b[0].reshape(-1, b.shape[3])[:, o : o + _TILE], one)
        _widen(b[1].reshape(-1, b.shape[3])[:, o : o + _TILE], other)
        for n in range(len(y)):
            _fetch(y, n + _AHEAD, o)
            _fetch(by, n + _AHEAD, o)
            s0, s1, s2, s3 = _tile(y[n], o, h[0, n], ids[n, 0], one, rank)
            t0, t1, t2, t3 = _tile(by[n], o, h[1, n], ids[n, 1], other, rank)
            store(y[n], o, silu(s0) * t0)
            store(y[n], o + LANES, silu(s1) * t1)
            store(y[n], o + 2 * LANES, silu(s2) * t2)
            store(y[n], o + 3 * LANES, silu(s3) * t3)
    for n in range(len(y)):
        for o in range(even, y.shape[1], LANES):
            gate, up = _rest(y[n], o, h[0, n], ids[n, 0], b[0]), _rest(by[n], o, h[1, n], ids[n, 1], b[1])
            store(y[n], o, silu(gate) * up)


@shared
def mixed(
    x: Narrow,
    y_at: NDArray[np.int64],
    like: Narrow,
    experts: tuple[Narrow, Floats, Narrow, Narrow, float],
    masks: Floats,
    rows: Floats,
    gates: bool,
    parts: int,
) -> None:
    """Adds to y, [N, O] at each of P addresses and of the dtype of `like`, what the experts give that routers pick for
    x [N, I]. Where it `gates`, silu of the first times the second takes the place of the first, and the second stays.

    experts, masks and rows, here [N, P, E+2K], as in `token.adapted`. Each part of the work sees some of the tokens.
    """
    router, bias, a, b, scaling = experts
    (routers, count, rank, _), top_k, size = b.shape, (rows.shape[2] - b.shape[1]) // 2, (len(x), b.shape[3])
    for part in prange(parts):
        own = slice(len(x) * part // parts, len(x) * (part + 1) // parts)
        read, picked = x[own], rows[own]
        ids, h = picked[:, :, count : count + top_k], np.empty((routers, len(read), top_k * rank), np.float32)
        for p in range(routers):
            _route(read, router[p], bias[p], masks[p], picked[:, p])
            _into(read, a[p], scaling, picked[:, p], h[p])
        if gates:
            _gate(narrow_array(y_at[0], size, like)[own], narrow_array(y_at[1], size, like)[own], h, ids, b)
        else:
            for p in range(routers):
                _add(narrow_array(y_at[p], size, like)[own], h[p], ids[:, p], b[p])
