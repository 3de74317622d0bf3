"""The highest of a vocabulary's logits, and what a softmax makes of them."""

from __future__ import annotations

import math

import numpy as np

from molora.fast.kernel.keeping import inner, kept
from molora.fast.kernel.lanes import LANES, Floats, exp_lanes, greatest, larger, load, spread, total
from molora.fast.kernel.numbers import float_array

BLOCK = 32 * LANES
"""Logits of which the highest is known before each is looked at; a vocabulary is to be of whole blocks"""


@inner
def _highest(logits: Floats, start: int) -> float:
    """Of a block."""
    most = load(logits, start)
    for i in range(start + LANES, start + BLOCK, LANES):
        most = larger(most, load(logits, i))
    return greatest(most)


@kept
def best(logits_at: int, size: int, found: Floats) -> None:
    """Of logits [V] the C highest, highest first: to found [2, C] where they are, and their probabilities."""
    logits = float_array(logits_at, size)
    tops = np.empty(size // BLOCK, np.float32)
    for block in range(len(tops)):
        tops[block] = _highest(logits, block * BLOCK)
    most = tops.max()
    level, sum_ = spread(most), spread(np.float32(0))
    for i in range(0, size, LANES):
        sum_ += exp_lanes(load(logits, i) - level)
    whole = total(sum_)
    for place in range(found.shape[1]):
        block = int(tops.argmax())
        at, second = -1, -np.float32(np.inf)  # of those not taken yet
        for i in range(block * BLOCK, (block + 1) * BLOCK):
            taken = False
            for earlier in range(place):
                taken |= found[0, earlier] == i
            if not taken and (at < 0 or logits[i] > logits[at]):
                at, second = i, (second if at < 0 else logits[at])
            elif not taken and logits[i] > second:
                second = logits[i]
        found[0, place], found[1, place], tops[block] = at, math.exp(logits[at] - most) / whole, second
