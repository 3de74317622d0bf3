"""Weights to 16 levels for every block of 32, in one go over each: float32 ones are read from memory once.

Axes: O out_features, I in_features, G blocks of 32 weights along I, W rows of a weight side by side: `LANES`.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange
from numpy.typing import NDArray

from molora.fast.kernel.keeping import inner, shared
from molora.fast.kernel.lanes import LANES, Floats, greatest, larger, load, spread
from molora.fast.kernel.levels import LEVELS_BLOCK, WORDS
from molora.fast.kernel.numbers import half

_PLACES = 8
"""Levels in a word"""


@inner
def _ends(row: Floats, at: int) -> tuple[np.float32, np.float32]:
    """The least and the greatest weight of a block."""
    nothing = spread(np.float32(0))
    high = load(row, at)
    low = nothing - high
    for i in range(at + LANES, at + LEVELS_BLOCK, LANES):
        some = load(row, i)
        high, low = larger(high, some), larger(low, nothing - some)
    return -greatest(low), greatest(high)


@inner
def _pack_row(row: Floats, words: NDArray[np.int32], place: int) -> tuple[np.float32, np.float32]:
    """A row's `place` in words [G, `WORDS`, W]; how far off its grid a weight lies at most, and the sum of scales."""
    worst, total = np.float32(0), np.float32(0)
    for g in range(words.shape[0]):
        low, high = _ends(row, g * LEVELS_BLOCK)
        scale = (high - low) / np.float32(15)
        inverse = np.float32(1) / scale if scale > 0 else np.float32(0)
        for word in range(WORDS - 1):
            bits = np.int32(0)
            for i in range(_PLACES):
                weight = row[g * LEVELS_BLOCK + word * _PLACES + i]
                level = np.float32(math.floor((weight - low) * inverse + np.float32(0.5)))
                off = abs(low + level * scale - weight)
                if not off <= worst:
                    worst = np.float32(np.inf) if np.isnan(off) else off  # what is no number lies on no grid
                bits |= np.int32(level) << np.int32(4 * i)
            words[g, word, place] = bits
        halves = np.int32(half(scale)) | np.int32(half(low + np.float32(8) * scale)) << np.int32(16)
        words[g, WORDS - 1, place] = halves
        total += scale
    return worst, total


@shared
def packed(weight: Floats, words: NDArray[np.int32], found: Floats, parts: int) -> None:
    """A weight [O, I] to words [O / W, G, `WORDS`, W], as `levels.multiplied` takes them.

    found [parts, 2] takes how far off its grid a weight lies at most and the sum of all scales; each part of the work
    packs some rows.
    """
    for part in prange(parts):
        count = words.shape[0]
        for o in range(count * part // parts * LANES, count * (part + 1) // parts * LANES):
            worst, total = _pack_row(weight[o], words[o // LANES], o % LANES)
            found[part, 0] = max(found[part, 0], worst)
            found[part, 1] += total
