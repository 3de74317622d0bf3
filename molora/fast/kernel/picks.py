"""Which experts a router picks."""

from __future__ import annotations

import math

import numpy as np

from molora.fast.kernel.keeping import inner
from molora.fast.kernel.lanes import LANES, Floats, exp_lanes, larger, load, spread, store, where_larger, where_same

_LEAST = -3.4e38
"""What a logit counts as that is less: more than nothing"""
_NOTHING = -87
"""Powers of e that are less are no float32"""


@inner
def pick(rows: Floats, n: int, masks: Floats, top_k: int) -> None:
    """What `layers.choose` gives for one router and token n: rows [N, E+2K] hold logits and take ids and weights; masks
    [4, E].

    No part of them is taken by itself: its holders would be counted, which takes longer than all the rest.
    """
    experts, first = masks.shape[1], masks.shape[1] + top_k
    for k in range(top_k):
        best = -1
        for e in range(experts):
            taken = False
            for j in range(experts, experts + k):
                taken |= int(rows[n, j]) == e
            if not taken and (best < 0 or rows[n, e] + masks[0, e] > rows[n, best] + masks[0, best]):
                best = e
        rows[n, experts + k], rows[n, first + k] = best, rows[n, best] + masks[2, best]
    for k in range(1, top_k):  # strongest first, which they are already where no edit ranks them otherwise
        e, picked, j = rows[n, experts + k], rows[n, first + k], k - 1
        while j >= 0 and rows[n, first + j] < picked:
            rows[n, experts + j + 1], rows[n, first + j + 1] = rows[n, experts + j], rows[n, first + j]
            j -= 1
        rows[n, experts + j + 1], rows[n, first + j + 1] = e, picked
    sharpness, total = masks[3, 0], np.float32(0)
    strongest = rows[n, first] * sharpness
    for k in range(first, first + top_k):
        rows[n, k] = math.exp(rows[n, k] * sharpness - strongest)
        total += rows[n, k]
    for k in range(top_k):
        rows[n, first + k] /= total
        if masks[1, int(rows[n, experts + k])] == 0:
            rows[n, experts + k], rows[n, first + k] = -1, 0


@inner
def pick_many(found: Floats, bias: Floats, masks: Floats, rows: Floats) -> None:
    """The same for tokens [N], as many as there are lanes at once, whose logits are what was found [N, E] and a bias.

    For one token each comparison waits for the one before.
    """
    experts, top_k, none = len(bias), (rows.shape[1] - len(bias)) // 2, spread(np.float32(-np.inf))
    logits, scores = np.empty((experts, LANES), np.float32), np.empty((experts, LANES), np.float32)
    ids, weights = np.empty((top_k, LANES), np.float32), np.empty((top_k, LANES), np.float32)
    for first in range(0, len(rows), LANES):
        end = min(first + LANES, len(rows))
        for e in range(experts):
            for n in range(first, end):
                logits[e, n - first] = rows[n, e] = found[n, e] + bias[e]
        for e in range(experts):
            own, at = load(logits, e * LANES), e * LANES
            store(scores, at, larger(own + spread(masks[0, e]), spread(np.float32(_LEAST))))
            store(logits, at, own + spread(masks[2, e]))
        for k in range(top_k):
            best, which, weight = none, spread(np.float32(0)), none
            for e in range(experts):
                score = load(scores, e * LANES)
                which = where_larger(score, best, spread(np.float32(e)), which)
                weight = where_larger(score, best, load(logits, e * LANES), weight)
                best = larger(score, best)
            for e in range(experts):
                score = where_same(which, spread(np.float32(e)), none, load(scores, e * LANES))
                store(scores, e * LANES, score)
            store(ids, k * LANES, which)
            store(weights, k * LANES, weight)
        _weigh(ids, weights, masks)
        for k in range(top_k):
            for n in range(first, end):
                rows[n, experts + k] = ids[k, n - first]
                rows[n, experts + top_k + k] = weights[k, n - first]


@inner
def _weigh(ids: Floats, weights: Floats, masks: Floats) -> None:
    """Of picks [K, `LANES`] with logits as weights the strongest first, which they are already where no edit ranks them
    otherwise; then their softmax, and nothing for those that are switched off."""
    top_k, sharpness, sum_ = len(ids), spread(masks[3, 0]), spread(np.float32(0))
    zero, none = sum_, spread(np.float32(-1))
    for k in range(1, top_k):
        for j in range(k * LANES, 0, -LANES):
            one, other, i = load(weights, j - LANES), load(weights, j), j - LANES
            first, second = load(ids, i), load(ids, j)
            store(ids, i, where_larger(other, one, second, first))
            store(ids, j, where_larger(other, one, first, second))
            store(weights, i, where_larger(other, one, other, one))
            store(weights, j, where_larger(other, one, one, other))
    strongest = load(weights, 0) * sharpness
    for at in range(0, top_k * LANES, LANES):
        less = load(weights, at) * sharpness - strongest
        weight = where_larger(spread(np.float32(_NOTHING)), less, zero, exp_lanes(less))
        sum_ += weight
        store(weights, at, weight)
    for at in range(0, top_k * LANES, LANES):
        store(weights, at, load(weights, at) / sum_)
        for e in range(masks.shape[1]):
            if masks[1, e] == 0:
                which = load(ids, at)
                store(weights, at, where_same(which, spread(np.float32(e)), zero, load(weights, at)))
                store(ids, at, where_same(which, spread(np.float32(e)), none, which))
