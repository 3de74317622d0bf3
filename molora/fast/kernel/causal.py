"""Attention of many tokens, each to itself and to those before it.

Axes: see `kernel`; a tile is `WIDTH` tokens whose keys lie side by side; M tokens of one head are worked on at once.
"""

from __future__ import annotations

import numpy as np

from molora.fast.kernel.keeping import inner, kept
from molora.fast.kernel.lanes import LANES, Floats, load, store
from molora.fast.kernel.numbers import float_array
from molora.fast.kernel.parallel import share
from molora.fast.kernel.ranks import room
from molora.fast.kernel.several import TOGETHER, WIDTH, added, held, multiplied, put, some
from molora.fast.kernel.shares import chunks_of, holder
from molora.fast.kernel.weighing import divided, weigh

_TOKENS = 4 * TOGETHER
_KEYS = 256
"""What so many tokens read of so many stays in a core's own caches"""

Lines = tuple[Floats, int, int]
"""An array, where in it the first line begins, and how far apart lines are"""


@inner
def _side(keys: Floats, tile: Floats) -> None:
    """Keys [T, D] of a tile, or of less, as its columns [D, `WIDTH`]."""
    tile[:, len(keys) :] = 0
    for t in range(len(keys)):
        for d in range(keys.shape[1]):
            tile[d, t] = keys[t, d]


@inner
def hide(hidden: Floats, first: int, last: int, past: int, scores: Floats) -> None:
    """Of a span of tokens; the last one's scores stand there several times, see `some`."""
    for row in range(-(-(last - first) // TOGETHER) * TOGETHER):
        n = min(first + row, len(hidden) - 1)
        for at in range(0, past + n + 1, LANES):
            score = load(scores, row * scores.shape[1] + at) + load(hidden, n * hidden.shape[1] + at)
            store(scores, row * scores.shape[1] + at, score)


@inner
def _score(
    query: Lines,
    sides: Lines,
    span: tuple[int, int],
    sizes: tuple[int, int, int],
    hidden: Floats,
    scores: Floats,
    totals: Floats,
) -> None:
    """Of one head, how much a span of tokens attends to those before: scores [M, T or more], to be divided by totals
    [M]. `sides`: its first tile; `sizes`: N, T and D."""
    (first, last), (count, length, size), (tiles, start, _), every = span, sizes, sides, some(0, TOGETHER)
    past, line = length - count, scores.shape[1]
    for at in range(0, past + last, WIDTH):
        for n in range(first, last, TOGETHER):
            if at < past + n + TOGETHER:
                found = multiplied(query, (tiles, start + at * size, WIDTH), size, some(n, count))
                put(found, (scores, (n - first) * line + at, line, LANES), every)
    if len(hidden):
        hide(hidden, first, last, past, scores)
    for n in range(first, last, TOGETHER):
        read = -(-(past + min(n + TOGETHER, count)) // WIDTH) * WIDTH
        weigh(scores, n - first, read, past + n + 1, length, totals, scores)


@inner
def _look(
    values: Lines,
    span: tuple[int, int],
    sizes: tuple[int, int, int],
    scores: Floats,
    totals: Floats,
    y: Lines,
) -> None:
    """The values of one head [T, D] by such scores, to its y."""
    (first, last), (count, length, size), every = span, sizes, some(0, TOGETHER)
    (kept, start, apart), (to, y_start, y_line), past, line = values, y, length - count, scores.shape[1]
    for at in range(0, past + last, _KEYS):
        for d in range(0, size, WIDTH):
            value, place = (kept, start + at * apart + d, apart), (to, y_start + d, y_line, LANES)
            for n in range(first, last, TOGETHER):
                rows, them = min(past + n + TOGETHER, length, at + _KEYS) - at, some(n, count)
                found = multiplied((scores, (n - first) * line + at, line), value, rows, every)
                found = divided(found, totals, n - first)
                put(added(found, held(place, them)) if at else found, place, them)


@inner
def _lay_some(part: int, parts: int, keys: Floats, length: int, sides: Floats) -> None:
    """Keys [G, room, D] on their sides, [G * tiles * D, `WIDTH`]."""
    (groups, _, size), tiles = keys.shape, -(-length // WIDTH)
    for job in range(groups * tiles * part // parts, groups * tiles * (part + 1) // parts):
        first = job % tiles * WIDTH
        _side(keys[job // tiles, first : min(first + WIDTH, length)], sides[job * size : (job + 1) * size])


@inner
def _attend_some(
    part: int,
    parts: int,
    query: Floats,
    sides: Floats,
    values: Floats,
    length: int,
    hidden: Floats,
    y: Floats,
) -> None:
    (heads, count, size), (groups, space, _) = query.shape, values.shape
    each, line, sizes = heads // groups, -(-length // WIDTH) * WIDTH, (count, length, size)
    ends = chunks_of(count, parts)
    scores, totals = room(_TOKENS, line), np.empty(_TOKENS, np.float32)
    for job in range(heads * (len(ends) - 1)):
        head, chunk = job // (len(ends) - 1), job % (len(ends) - 1)
        if holder(chunk, parts) != part:
            continue
        asked, side = (query, head * count * size, size), (sides, head // each * line * size, WIDTH)
        value, to = (values, head // each * space * size, size), (y, head * size, heads * size)
        for first in range(ends[chunk], ends[chunk + 1], _TOKENS):
            span = first, min(first + _TOKENS, ends[chunk + 1])
            _score(asked, side, span, sizes, hidden, scores, totals)
            _look(value, span, sizes, scores, totals, to)


@kept
def attended_by_many(
    query: Floats,
    keys_at: int,
    values_at: int,
    shape: tuple[int, int, int],
    hidden: Floats,
    y: Floats,
    parts: int,
) -> None:
    """Queries [H, N, D] of the last N tokens, with the scale in them, attend to the first T of the tokens that keys and
    values [G, room, D] have room for: y [N, H, D].

    `shape`: G, room and T; D is a multiple of `WIDTH`. hidden [N, T, up to a multiple of `WIDTH`]: what is added to
    scores, minus infinity where a token does not see one before it; empty where each sees all of them. Each part of
    the work sees some of the tokens.
    """
    (groups, space, length), size = shape, query.shape[2]
    keys, values = float_array(keys_at, (groups, space, size)), float_array(values_at, (groups, space, size))
    sides = room(groups * -(-length // WIDTH) * size, WIDTH)
    share(_lay_some, parts, keys, length, sides)
    share(_attend_some, parts, query, sides, values, length, hidden, y)
