"""Many tokens through the experts that their routers pick, and through no other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from molora.fast.kernel.keeping import inner, kept
from molora.fast.kernel.lanes import LANES, Floats, Narrow, load, silu, spread, store
from molora.fast.kernel.numbers import narrow_array, put, wide
from molora.fast.kernel.parallel import share
from molora.fast.kernel.picks import pick_many
from molora.fast.kernel.ranks import (
    TILE,
    down_room,
    go_down,
    go_up,
    h_room,
    lay_up,
    up_room,
)


@inner
def by_expert(
    rows: Floats, count: int, top_k: int, scaling: float, together: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats, NDArray[np.int64]]:
    """Slots of rows [N, E+2K], numbered n*K + k, with those of the first expert first; of each the token n and what is
    to be put on it; and where each expert's begin [E+1]. An expert's last slot stands there again until they are a
    multiple of so many `together`. One that an edit switches off is none's."""
    first = np.zeros(count + 2, np.int64)
    for n in range(len(rows)):
        for k in range(count, count + top_k):
            first[int(rows[n, k]) + 2] += int(rows[n, k]) >= 0
    for e in range(count):
        first[e + 2] = first[e + 1] - -first[e + 2] // together * together
    slots, tokens = np.empty(first[count + 1], np.int64), np.empty(first[count + 1], np.int64)
    gates = np.empty(first[count + 1], np.float32)
    for n in range(len(rows)):
        for k in range(top_k):
            e = int(rows[n, count + k])
            if e >= 0:
                m = first[e + 1]
                slots[m], tokens[m], gates[m] = n * top_k + k, n, rows[n, count + top_k + k] * scaling
                first[e + 1] = m + 1
    for e in range(count):
        while first[e + 1] % together:
            m = first[e + 1]
            slots[m], tokens[m], gates[m] = slots[m - 1], tokens[m - 1], gates[m - 1]
            first[e + 1] = m + 1
    return slots, tokens, gates, first[: count + 1]


@inner
def route(x: Narrow, routers: Narrow, bias: Floats, masks: Floats, rows: Floats) -> None:
    """Logits of routers [P, E, I] for tokens x [N, I], and what each picks, to rows [N, P, E+2K]."""
    linears, count, width = routers.shape
    weight, found = routers.reshape(linears * count, width), np.empty((len(x), linears * count), np.float32)
    go_down(weight, x, np.arange(len(x)), found, down_room(x, weight))
    for p in range(linears):
        pick_many(found[:, p * count : (p + 1) * count], bias[p], masks[p], rows[:, p])


@inner
def weighted(low: np.float32, gate: np.float32) -> np.float32:
    """What comes of an expert, with its weight on it: without any it must add nothing even where it overflows."""
    return low * gate if gate != 0 else np.float32(0)


@inner
def go_into(x: Narrow, a: Narrow, tokens: NDArray[np.int64], first: NDArray[np.int64], h: Floats) -> None:
    """h [M, R]: what experts, a [E, R, I], make of the tokens that pick them: see `by_expert`. Those that share one go
    into it together."""
    down = down_room(x, a)
    for e in range(len(a)):
        if first[e] < first[e + 1]:
            each = slice(first[e], first[e + 1])
            go_down(a[e], x, tokens[each], h[each], down)


@inner
def _by_slot(found: Floats, slots: NDArray[np.int64], gates: Floats, h: Narrow) -> None:
    """What was found for slots [M], with their weights on it, to h [N*K, R]: nothing where none was."""
    h[:] = 0
    for m in range(len(slots)):
        for r in range(found.shape[1]):
            put(h, slots[m] * h.shape[1] + r, weighted(found[m, r], gates[m]))


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


@inner
def _mix_some(
    part: int,
    parts: int,
    x: Narrow,
    y_at: NDArray[np.int64],
    like: Narrow,
    experts: tuple[Narrow, Floats, Narrow, Narrow, float],
    masks: Floats,
    rows: Floats,
    gates: bool,
) -> None:
    router, bias, a, b, scaling = experts
    (routers, count, rank, _), top_k, size = b.shape, (rows.shape[2] - b.shape[1]) // 2, (len(x), b.shape[3])
    own = slice(len(x) * part // parts, len(x) * (part + 1) // parts)
    read, picked = x[own], rows[own]
    ids, h = picked[:, :, count : count + top_k], h_room((routers, len(read) * top_k, rank), like, b)
    found = np.empty((len(read) * top_k, rank), np.float32)
    route(read, router, bias, masks, picked)
    for p in range(routers):
        slots, tokens, weights, first = by_expert(picked[:, p], count, top_k, scaling, 1)
        go_into(read, a[p], tokens, first, found)
        _by_slot(found, slots, weights, h[p])
    for p in range(routers):
        _add(narrow_array(y_at[p], size, like)[own], h[p].reshape(len(read), top_k * rank), ids[:, p], b[p])
    if gates:
        gate(narrow_array(y_at[0], size, like)[own], narrow_array(y_at[1], size, like)[own])


@kept
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
    share(_mix_some, parts, x, y_at, like, experts, masks, rows, gates)
