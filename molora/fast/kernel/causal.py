"""Attention of many tokens, each to itself and to those before it.

Axes: see `kernel`; a tile is `WIDTH` tokens whose keys lie side by side.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from molora.fast.kernel.keeping import inner, shared
from molora.fast.kernel.lanes import LANES, Floats, exp_lanes, greatest, larger, load, spread, store, total
from molora.fast.kernel.numbers import float_array
from molora.fast.kernel.ranks import room
from molora.fast.kernel.several import TOGETHER, WIDTH, multiply, some

_TOKENS = 4 * TOGETHER
_KEYS = 256
"""What so many tokens read of so many stays in a core's own caches"""


@inner
def _side(keys: Floats, tile: Floats) -> None:
    """Keys [T, D] of a tile, or of less, as its columns [D, `WIDTH`]."""
    tile[:, len(keys) :] = 0
    for t in range(len(keys)):
        for d in range(keys.shape[1]):
            tile[d, t] = keys[t, d]


@inner
def _weigh(scores: Floats, seen: int) -> float:
    """Of one token's scores those that it sees become e to each less the largest, and the others 0; the sum."""
    scores[seen:] = -np.inf
    most = load(scores, 0)
    for t in range(LANES, scores.shape[0], LANES):
        most = larger(most, load(scores, t))
    largest, sums = spread(greatest(most)), spread(np.float32(0))
    for t in range(0, scores.shape[0], LANES):
        weights = exp_lanes(load(scores, t) - largest)
        store(scores, t, weights)
        sums += weights  # of what is not seen each adds 1e-38
    scores[seen:] = 0
    return total(sums)


@inner
def _divide(y: Floats, by: float) -> None:
    part = spread(np.float32(1) / by)
    for d in range(0, y.shape[0], LANES):
        store(y, d, load(y, d) * part)


@shared
def attended_by_many(
    query: Floats, keys_at: int, values_at: int, shape: tuple[int, int, int], y: Floats, parts: int
) -> None:
    """Queries [H, N, D] of the last N tokens, with the scale in them, attend to the first T of the tokens that keys and
    values [G, room, D] have room for: y [N, H, D].

    `shape`: G, room and T; D is a multiple of `WIDTH`. Each part of the work sees some of the tokens.
    """
    (heads, count, size), (groups, space, length), each = query.shape, shape, query.shape[0] // shape[0]
    keys, values = float_array(keys_at, (groups, space, size)), float_array(values_at, (groups, space, size))
    tiles, blocks, past = -(-length // WIDTH), -(-count // _TOKENS), length - count
    sides, line = room(groups * tiles * size, WIDTH), tiles * WIDTH
    for part in prange(parts):
        for job in range(groups * tiles * part // parts, groups * tiles * (part + 1) // parts):
            first = job % tiles * WIDTH
            _side(keys[job // tiles, first : min(first + WIDTH, length)], sides[job * size : (job + 1) * size])
    for part in prange(parts):
        scores = room(_TOKENS, line)
        for job in range(part, heads * blocks, parts):  # in turns, since later tokens see more
            head, first = job // blocks, job % blocks * _TOKENS
            last = min(first + _TOKENS, count)
            group, own, end = head // each, last - first, past + last
            asked, found = (query, (head * count + first) * size, size), (first * heads + head) * size
            scores[:own, : -(-end // WIDTH) * WIDTH] = 0
            for at in range(0, end, WIDTH):
                side = sides, (group * line + at) * size, WIDTH
                for n in range(0, own, TOGETHER):
                    if at < past + first + n + TOGETHER:
                        multiply((scores, at, line), asked, side, size, some(n, own))
            sums = np.empty(own, np.float32)
            for n in range(own):
                read = min(past + first + n // TOGETHER * TOGETHER + TOGETHER, end)  # with those that it goes with
                sums[n] = _weigh(scores[n, : -(-read // WIDTH) * WIDTH], past + first + n + 1)
            y[first:last, head] = 0
            for at in range(0, end, _KEYS):
                for d in range(0, size, WIDTH):
                    to, value = (y, found + d, heads * size), (values, (group * space + at) * size + d, size)
                    for n in range(0, own, TOGETHER):
                        rows = min(past + first + n + TOGETHER, end, at + _KEYS) - at
                        multiply(to, (scores, at, line), value, rows, some(n, own))
            for n in range(own):
                _divide(y[first + n, head], sums[n])
