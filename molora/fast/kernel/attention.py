"""Attention of one token."""

from __future__ import annotations

import numpy as np

from molora.fast.kernel.keeping import inner, kept
from molora.fast.kernel.lanes import LANES, Floats, Narrow, exp_lanes, greatest, larger, load, spread, store, total
from molora.fast.kernel.numbers import exp, narrow_array
from molora.fast.kernel.parallel import share
from molora.fast.kernel.prefetching import lines_of, prefetch
from molora.fast.kernel.queries import QUERIES, REGISTERS, ROWS, add_weighted, score

_CHUNK = 64
"""Tokens whose keys stay in a core's own cache from one query to the next."""
_AHEAD = 64
"""Tokens whose keys or values are asked for ahead of time"""


@inner
def _weights(query: Floats, keys: Narrow, weights: Floats, sums: Floats) -> None:
    """How much queries [Q, D] of one key head, with the scale in them, attend to T tokens: weights [Q, T, up to whole
    registers], not yet divided by their sum; sums [2, Q] take the largest score and that sum."""
    count, (seen, size) = len(weights), keys.shape
    for begin in range(0, seen, _CHUNK):
        for q in range(0, count, QUERIES):
            for t in range(begin, min(begin + _CHUNK, seen), ROWS):
                prefetch(keys, (t + _AHEAD) * size, lines_of(keys, ROWS * size))
                score(query, q, keys, t, weights)
    weights[:, seen:] = -np.inf
    for q in range(count):
        row = weights[q]
        most, whole = load(row, 0), spread(np.float32(0))
        for t in range(LANES, len(row), LANES):
            most = larger(most, load(row, t))
        largest = greatest(most)
        for t in range(0, len(row), LANES):
            weight = exp_lanes(load(row, t) - spread(largest))
            store(row, t, weight)
            whole += weight
        sums[0, q], sums[1, q] = largest, total(whole)


@inner
def _weighted(weights: Floats, values: Narrow, y: Floats) -> None:
    """y [Q, D] = weights [Q, T or more] @ values [T, D]."""
    seen, size = values.shape
    y[:] = 0
    for t in range(0, seen, _CHUNK):
        for q in range(0, len(y), QUERIES):
            for d in range(0, size, REGISTERS * LANES):
                add_weighted(weights, q, values, (t, min(t + _CHUNK, seen)), y, d, _AHEAD)


@inner
def _joined(found: Floats, sums: Floats, y: Floats) -> None:
    """What one query found in each of the parts, [parts, D], to y [D], by sums [parts, 2]."""
    largest, whole = sums[0, 0], np.float32(0)
    for part in range(1, len(found)):
        largest = max(largest, sums[part, 0])
    y[:] = 0
    for part in range(len(found)):
        weight = exp(sums[part, 0] - largest)
        whole += weight * sums[part, 1]
        for d in range(y.shape[0]):
            y[d] += weight * found[part, d]
    for d in range(y.shape[0]):
        y[d] /= whole


@inner
def _attend_to_some(
    part: int,
    parts: int,
    query: Floats,
    scale: float,
    keys: Narrow,
    values: Narrow,
    total: int,
    found: Floats,
    sums: Floats,
) -> None:
    """What queries find in some of the tokens: [parts, H, D], to be joined by sums [parts, 2, H]."""
    groups, each = len(keys), len(query) // len(keys)
    first, last = total * part // parts, total * (part + 1) // parts
    asked, registers = np.empty((each, query.shape[1]), np.float32), -(-(last - first) // LANES)
    weights = np.empty((each, registers * LANES), np.float32)
    for g in range(groups):
        own = slice(g * each, (g + 1) * each)
        for q in range(each):
            for d in range(asked.shape[1]):
                asked[q, d] = query[g * each + q, d] * np.float32(scale)
        _weights(asked, keys[g, first:last], weights, sums[part, :, own])
        _weighted(weights, values[g, first:last], found[part, own])


@kept
def attended(
    query: Floats,
    scale: float,
    keys_at: int,
    values_at: int,
    shape: tuple[int, int, int],
    like: Narrow,
    y: Floats,
    parts: int,
) -> None:
    """Attention of one token, queries [H, D], to the first T of the tokens that keys and values [G, room, D], narrow as
    `like`, have room for: y [H, D]. `shape`: G, room and T. Each part of the work sees some of the tokens, one at
    least."""
    (heads, size), (groups, room, total) = query.shape, shape
    keys, values = (
        narrow_array(keys_at, (groups, room, size), like),
        narrow_array(values_at, (groups, room, size), like),
    )
    found, sums = np.empty((parts, heads, size), np.float32), np.empty((parts, 2, heads), np.float32)
    share(_attend_to_some, parts, query, scale, keys, values, total, found, sums)
    for head in range(heads):
        _joined(found[:, head], sums[:, :, head], y[head])
