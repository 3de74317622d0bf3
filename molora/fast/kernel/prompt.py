"""Many tokens through the experts that their routers pick, and through no other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from molora.fast.kernel.keeping import inner, shared
from molora.fast.kernel.lanes import LANES, Floats, Narrow, load, silu, spread, store
from molora.fast.kernel.numbers import narrow_array, put, wide
from molora.fast.kernel.picks import pick_many
from molora.fast.kernel.ranks import (
    TILE,
    down_room,
    go_down,
    go_up,
    h_room,
    laid_down,
    lay_up,
    up_room,
)


@inner
def by_expert(rows: Floats, count: int, top_k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
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
def route(x: Narrow, routers: Narrow, bias: Floats, masks: Floats, rows: Floats) -> None:
    """Logits of routers [P, E, I] for tokens x [N, I], and what each picks, to rows [N, P, E+2K]."""
    linears, count, width = routers.shape
    weight, found = routers.reshape(linears * count, width), np.empty((len(x), linears * count), np.float32)
    go_down(laid_down(weight, down_room(x, weight, len(weight)), x), x, np.arange(len(x)), found)
    for p in range(linears):
        pick_many(found[:, p * count : (p + 1) * count], bias[p], masks[p], rows[:, p])


@inner
def go_into(
    x: Narrow, a: Narrow, scaling: float, rows: Floats, slots: NDArray[np.int64], first: NDArray[np.int64], h: Narrow
) -> None:
    """h [N*K, R]: what each token's experts make of it, with their weights on it. Tokens that share an expert, a [E, R,
    I], go into it together: see `by_expert`."""
    count, rank = a.shape[0], a.shape[1]
    top_k = (rows.shape[1] - count) // 2
    h, down, found = h.reshape(-1), down_room(x, a, rank), np.empty((len(x), rank), np.float32)  # h [N*K*R]
    h[:] = 0
    for e in range(count):
        if first[e] == first[e + 1]:
            continue
        own = slots[first[e] : first[e + 1]]
        go_down(laid_down(a[e], down, x), x, own // top_k, found)
        for m in range(len(own)):
            n, k = own[m] // top_k, own[m] % top_k
            gate = np.float32(rows[n, count + top_k + k] * scaling)
            if gate != 0:  # an expert without weight must add nothing even where it overflows
                for r in range(rank):
                    put(h, own[m] * rank + r, found[m, r] * gate)


@inner
def _rest(y: Narrow, o: int, h: Narrow, ids: Floats, b: Narrow) -> Any:
    """The same for what is less than a tile, by b [E, R, O] itself."""
    rank, s = b.shape[1], load(y, o)
    for k in range(ids.shape[0]):
        for r in range(rank):
            s += load(b[int(max(ids[k], 0)), r], o) * spread(wide(h[k * rank + r]))
    return s


@inner
def _add(y: Narrow, h: Narrow, ids: Floats, b: Narrow) -> None:
    """y [N, O] += what h [N, K*R] gives through the experts' b [E, R, O]."""
    rank, even = b.shape[1], y.shape[1] - y.shape[1] % TILE
    up = up_room(h, b)
    for o in range(0, even, TILE):
        lay_up(b.reshape(-1, b.shape[2])[:, o : o + TILE], up)
        go_up(y, o, h, ids, up, rank)
    for n in range(len(y)):
        for o in range(even, y.shape[1], LANES):
            store(y[n], o, _rest(y[n], o, h[n], ids[n], b))


@inner
def gate(y: Narrow, by: Narrow) -> None:
    """y [N, O] = silu(y) * by."""
    for n in range(len(y)):
        for o in range(0, y.shape[1], LANES):
            store(y[n], o, silu(load(y[n], o)) * load(by[n], o))


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
    x [N, I]. Where it `gates`, silu of the first times the second then takes the place of the first.

    experts, masks and rows, here [N, P, E+2K], as in `token.adapted`. Each part of the work sees some of the tokens.
    """
    router, bias, a, b, scaling = experts
    (routers, count, rank, _), top_k, size = b.shape, (rows.shape[2] - b.shape[1]) // 2, (len(x), b.shape[3])
    for part in prange(parts):
        own = slice(len(x) * part // parts, len(x) * (part + 1) // parts)
        read, picked = x[own], rows[own]
        ids, h = picked[:, :, count : count + top_k], h_room((routers, len(read) * top_k, rank), like, b)
        route(read, router, bias, masks, picked)
        for p in range(routers):
            go_into(read, a[p], scaling, picked[:, p], *by_expert(picked[:, p], count, top_k), h[p])
        for p in range(routers):
            _add(narrow_array(y_at[p], size, like)[own], h[p].reshape(len(read), top_k * rank), ids[:, p], b[p])
        if gates:
            gate(narrow_array(y_at[0], size, like)[own], narrow_array(y_at[1], size, like)[own])
