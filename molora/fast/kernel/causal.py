"""Attention of many tokens, each to itself and to those before it.

Axes: see `kernel`; a tile is `WIDTH` tokens whose keys lie side by side.
"""

from __future__ import annotations

from numba import prange

from molora.fast.kernel.keeping import inner, shared
from molora.fast.kernel.lanes import LANES, Floats
from molora.fast.kernel.numbers import float_array
from molora.fast.kernel.ranks import room
from molora.fast.kernel.several import TOGETHER, WIDTH, divided, multiplied, put, some, weigh
from molora.fast.kernel.shares import chunks_of, holder


@inner
def _side(keys: Floats, tile: Floats) -> None:
    """Keys [T, D] of a tile, or of less, as its columns [D, `WIDTH`]."""
    tile[:, len(keys) :] = 0
    for t in range(len(keys)):
        for d in range(keys.shape[1]):
            tile[d, t] = keys[t, d]


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
    tiles, past, ends = -(-length // WIDTH), length - count, chunks_of(count, parts)
    sides, line, every = room(groups * tiles * size, WIDTH), tiles * WIDTH, some(0, TOGETHER)
    for part in prange(parts):
        for job in range(groups * tiles * part // parts, groups * tiles * (part + 1) // parts):
            first = job % tiles * WIDTH
            _side(keys[job // tiles, first : min(first + WIDTH, length)], sides[job * size : (job + 1) * size])
    for part in prange(parts):
        scores = room(TOGETHER, line)
        for job in range(heads * (len(ends) - 1)):
            head, chunk = job // (len(ends) - 1), job % (len(ends) - 1)
            if holder(chunk, parts) != part:
                continue
            for first in range(ends[chunk], ends[chunk + 1], TOGETHER):
                group, them, end = head // each, some(first, count), past + min(first + TOGETHER, count)
                asked, read = (query, head * count * size, size), -(-end // WIDTH) * WIDTH
                for at in range(0, end, WIDTH):
                    side = sides, (group * line + at) * size, WIDTH
                    put(multiplied(asked, side, size, them), (scores, at, line, LANES), every)
                sums = weigh(scores, read, past + first + 1, length)
                for d in range(0, size, WIDTH):
                    value = values, group * space * size + d, size
                    found = divided(multiplied((scores, 0, line), value, end, every), sums)
                    put(found, (y, head * size + d, heads * size, LANES), them)
