"""The same as `causal` in bfloat16: attention of many tokens, each to itself and to those before it.

What all keys have in common, which moves no softmax, is taken out of them first: the scores become small, and lose less
by rounding (SageAttention, arXiv 2410.02367).

Axes: see `causal`; J tiles of `WIDTH` keys, up to a multiple of `STEP` keys.
"""

from __future__ import annotations

import numpy as np

from molora.fast.kernel.causal import hide
from molora.fast.kernel.keeping import inner, kept
from molora.fast.kernel.lanes import LANES, Float16, Floats, Narrow, load, spread, store
from molora.fast.kernel.numbers import address_of, float16_array
from molora.fast.kernel.parallel import share
from molora.fast.kernel.ranks import narrow_room, room
from molora.fast.kernel.rounding import braid
from molora.fast.kernel.several import TOGETHER, WIDTH
from molora.fast.kernel.shares import chunks_by, holder
from molora.fast.kernel.tiles import (
    GROUP,
    NONE,
    NOTHING,
    PANEL_STEP,
    STEP,
    done,
    halves_at,
    line_of,
    lines_at,
    multiply,
    ready,
)
from molora.fast.kernel.weighing import weigh

_FLOAT = 4
"""Bytes"""
_ROWS = -(-GROUP // TOGETHER) * TOGETHER
"""Of scores: as many as are weighed together, several times"""

_Rooms = tuple[Floats, Floats, Narrow, Floats]
"""Scores [M, T or more] of a group of tokens, totals [M], weights [M, T or more], and zeros"""


@inner
def _mean(keys: Float16, mean: Floats) -> None:
    """Of keys [T, D], [D]."""
    mean[:] = 0
    for t in range(len(keys)):
        for d in range(0, len(mean), LANES):
            store(mean, d, load(mean, d) + load(keys[t], d))
    for d in range(0, len(mean), LANES):
        store(mean, d, load(mean, d) * spread(np.float32(1 / len(keys))))


@inner
def _side(keys: Float16, first: int, mean: Floats, rows: Narrow, panel: Narrow) -> None:
    """Keys [T, D], less their mean, from the first of a tile on, as its columns [D/2, 2*`WIDTH`]; by way of rows
    [`WIDTH`, D], for pairs are moved faster than each number alone."""
    size, flat, narrow = keys.shape[1], keys.reshape(-1), rows.reshape(-1)
    filled = min(WIDTH, len(keys) - first)
    for t in range(filled):
        for d in range(0, size, LANES):
            store(narrow, t * size + d, load(flat, (first + t) * size + d) - load(mean, d))
    narrow[filled * size :] = 0
    pairs, columns = rows.view(np.int32), panel.view(np.int32)
    for i in range(size // 2):
        for t in range(WIDTH):
            columns[i, t] = pairs[t, i]


@inner
def _lay(values: Float16, first: int, panels: Narrow) -> None:
    """Values [T, D], of `STEP` tokens from the first on, into panels [D/`WIDTH`, T/2 or more, 2*`WIDTH`]."""
    (length, size), flat, none = values.shape, values.reshape(-1), np.zeros(2 * WIDTH, np.float32)
    for t in range(first, first + STEP, 2):
        for number in range(size // WIDTH):
            to = panels[number, t // 2]
            if t + 1 < length:
                braid(flat, t * size + number * WIDTH, (t + 1) * size + number * WIDTH, WIDTH, to, 0)
            elif t < length:
                for i in range(0, WIDTH, LANES):
                    store(none, i, load(flat, t * size + number * WIDTH + i))
                braid(none, 0, WIDTH, WIDTH, to, 0)
            else:
                to[:] = 0


@inner
def _weights(
    query: Narrow,
    sides: Narrow,
    span: tuple[int, int],
    length: int,
    hidden: Floats,
    rooms: _Rooms,
) -> int:
    """Of one head, queries [N, D] and sides [J, D/2, 2*`WIDTH`], how much a group of tokens attends to those before:
    scores to weights, to be divided by totals; to how many of the T, up to a multiple of `STEP`."""
    (first, last), (count, size), (scores, totals, weights, zeros) = span, query.shape, rooms
    past, line = length - count, scores.shape[1]
    read, some, start = -(-(past + last) // STEP) * STEP, last - first, halves_at((zeros, 0, 0, LANES))
    asked, (to, to_line, apart) = lines_at((query, first * size, size)), halves_at((scores, 0, line, LANES))
    side, steps = address_of(sides, 0), size // STEP
    for at in range(0, read, WIDTH):
        multiply(asked, side, steps, asked, side, NONE, start, (to + _FLOAT * at, to_line, apart), some, NOTHING)
        side += steps * PANEL_STEP
    if len(hidden):
        hide(hidden, first, last, past, scores)
    for n in range(0, some, TOGETHER):
        weigh(scores, n, read, past + first + n + 1, length, totals, weights)
    return read


@inner
def _look(
    query: Narrow,
    sides: Narrow,
    laid: Narrow,
    span: tuple[int, int],
    length: int,
    hidden: Floats,
    rooms: _Rooms,
    y: Floats,
    head: int,
) -> None:
    """A chunk of tokens of one head: y [N, H, D]."""
    (begin, end), (scores, totals, weights, zeros), (_, heads, size) = span, rooms, y.shape
    flat, line = y.reshape(-1), scores.shape[1]
    for n in range(begin, end, GROUP):
        some = min(GROUP, end - n)
        read = _weights(query, sides, (n, n + some), length, hidden, rooms)
        low, start = lines_at((weights, 0, weights.shape[1])), halves_at((zeros, 0, 0, LANES))
        for number in range(size // WIDTH):
            to = halves_at((y, (n * heads + head) * size + number * WIDTH, heads * size, LANES))
            values = address_of(laid, number * line * WIDTH)
            multiply(low, values, read // STEP, low, values, NONE, start, to, some, NOTHING)
        for m in range(some):
            at, part = ((n + m) * heads + head) * size, spread(np.float32(1 / totals[m]))
            for d in range(at, at + size, LANES):
                store(flat, d, load(flat, d) * part)


@inner
def _lay_some(part: int, parts: int, keys: Float16, values: Float16, length: int, sides: Narrow, laid: Narrow) -> None:
    """Keys and values [G, room, D]: sides [G, J, D/2, 2*`WIDTH`] and panels [G, D/`WIDTH`, T/2 or more, 2*`WIDTH`]."""
    (groups, tiles, _, _), steps, size = sides.shape, -(-length // STEP), keys.shape[2]
    mean, rows = np.empty(size, np.float32), narrow_room(WIDTH, size)
    for group in range(groups):
        own = keys[group, :length]
        _mean(own, mean)
        for tile in range(tiles * part // parts, tiles * (part + 1) // parts):
            _side(own, tile * WIDTH, mean, rows, sides[group, tile])
        for step in range(steps * part // parts, steps * (part + 1) // parts):
            _lay(values[group, :length], step * STEP, laid[group])


@inner
def _attend_some(
    part: int, parts: int, query: Narrow, sides: Narrow, laid: Narrow, length: int, hidden: Floats, y: Floats
) -> None:
    ends, line, heads = chunks_by(GROUP, query.shape[1], parts), 2 * laid.shape[2], len(query)
    each = heads // len(sides)
    ready()
    scores, totals = room(_ROWS, line), np.empty(_ROWS, np.float32)
    weights, zeros = narrow_room(_ROWS, line_of(line)), np.zeros(WIDTH, np.float32)
    for job in range(heads * (len(ends) - 1)):
        head, chunk = job // (len(ends) - 1), job % (len(ends) - 1)
        if holder(chunk, parts) == part:
            span, rooms = (ends[chunk], ends[chunk + 1]), (scores, totals, weights, zeros)
            _look(query[head], sides[head // each], laid[head // each], span, length, hidden, rooms, y, head)
    done()


@kept
def attended_in_tiles(
    query: Narrow,
    keys_at: int,
    values_at: int,
    shape: tuple[int, int, int],
    hidden: Floats,
    y: Floats,
    parts: int,
) -> None:
    """As `causal.attended_by_many`, queries in bfloat16, keys and values in float16."""
    (groups, space, length), size = shape, query.shape[2]
    keys, values = float16_array(keys_at, (groups, space, size)), float16_array(values_at, (groups, space, size))
    line, columns = -(-length // STEP) * STEP, size // WIDTH
    tiles = line // WIDTH
    sides = narrow_room(groups * tiles * size // 2, 2 * WIDTH).reshape(groups, tiles, size // 2, 2 * WIDTH)
    laid = narrow_room(groups * columns * line // 2, 2 * WIDTH).reshape(groups, columns, line // 2, 2 * WIDTH)
    share(_lay_some, parts, keys, values, length, sides, laid)
    share(_attend_some, parts, query, sides, laid, length, hidden, y)
