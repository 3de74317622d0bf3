"""Attention of one token."""

from __future__ import annotations

import numpy as np

from molora.fast.kernel.keeping import inner, kept
from molora.fast.kernel.lanes import Floats
from molora.fast.kernel.numbers import exp, float_array
from molora.fast.kernel.parallel import share
from molora.fast.kernel.products import add_both, add_rows, product, products

_CHUNK = 64
"""Tokens whose keys stay in a core's own cache from one query to the next."""
_AHEAD = 64
"""Tokens whose keys or values are asked for ahead of time"""


@inner
def _weights(query: Floats, keys: Floats, weights: Floats, sums: Floats) -> None:
    """How much queries [Q, D] of one key head, with the scale in them, attend to T tokens: weights [Q, T], not yet
    divided by their sum; sums [2, Q] take the largest score and that sum."""
    count, total = weights.shape
    for t in range(0, total, _CHUNK):
        some, q = keys[t : t + _CHUNK], 0
        while q + 2 <= count:
            products(some, query[q], query[q + 1], weights[q, t:], weights[q + 1, t:], _AHEAD)
            q += 2
        if q < count:
            product(some, query[q], weights[q, t:])
    for q in range(count):
        largest, whole = weights[q, 0], np.float32(0)
        for t in range(1, total):
            largest = max(largest, weights[q, t])
        for t in range(total):
            weights[q, t] = exp(weights[q, t] - largest)
            whole += weights[q, t]
        sums[0, q], sums[1, q] = largest, whole


@inner
def _weighted(weights: Floats, values: Floats, y: Floats) -> None:
    """y [Q, D] = weights [Q, T] @ values [T, D]."""
    count, total = weights.shape
    y[:] = 0
    for t in range(0, total, _CHUNK):
        some, q = values[t : t + _CHUNK], 0
        own = slice(t, t + len(some))
        while q + 2 <= count:
            add_both(y[q], y[q + 1], weights[q, own], weights[q + 1, own], some, _AHEAD)
            q += 2
        if q < count:
            add_rows(y[q], weights[q, own], some)


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
    keys: Floats,
    values: Floats,
    total: int,
    found: Floats,
    sums: Floats,
) -> None:
    """What queries find in some of the tokens: [parts, H, D], to be joined by sums [parts, 2, H]."""
    groups, each = len(keys), len(query) // len(keys)
    first, last = total * part // parts, total * (part + 1) // parts
    asked, weights = np.empty((each, query.shape[1]), np.float32), np.empty((each, last - first), np.float32)
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
    y: Floats,
    parts: int,
) -> None:
    """Attention of one token, queries [H, D], to the first T of the tokens that keys and values [G, room, D] have room
    for: y [H, D]. `shape`: G, room and T. Each part of the work sees some of the tokens, one at least."""
    (heads, size), (groups, room, total) = query.shape, shape
    keys, values = float_array(keys_at, (groups, room, size)), float_array(values_at, (groups, room, size))
    found, sums = np.empty((parts, heads, size), np.float32), np.empty((parts, 2, heads), np.float32)
    share(_attend_to_some, parts, query, scale, keys, values, total, found, sums)
    for head in range(heads):
        _joined(found[:, head], sums[:, :, head], y[head])
