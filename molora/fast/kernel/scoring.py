"""A vocabulary's logits from two halves of each weight, of 4 bits: rough for all of it, exact for the best."""

from __future__ import annotations

import numpy as np

from molora.fast.kernel.keeping import inner, kept
from molora.fast.kernel.lanes import LANES, Floats, greatest, load, store
from molora.fast.kernel.parallel import share
from molora.fast.kernel.products import product

_HALVINGS = 16
"""Of what lies between the least and the most; numpy's own way to part numbers takes seconds to compile"""


@inner
def _reached(tops: Floats, count: int) -> float:
    """What so many reach at least, and hardly more: the rest between the least and the most is halved."""
    least, most = tops.min(), tops.max()
    for _ in range(_HALVINGS):
        middle, found = (least + most) * np.float32(0.5), 0
        for top in tops:
            found += top >= middle
        if found >= count:
            least = middle
        else:
            most = middle
    return least


@inner
def _add_some(part: int, parts: int, halves: Floats, logits: Floats, tops: Floats) -> None:
    """The two products' sums, and the highest in each register of them."""
    for number in range(len(tops) * part // parts, len(tops) * (part + 1) // parts):
        sum_ = load(halves, number * LANES) + load(halves, len(logits) + number * LANES)
        store(logits, number * LANES, sum_)
        tops[number] = greatest(sum_)


@inner
def _score_some(part: int, parts: int, weight: Floats, x: Floats, tops: Floats, least: float, logits: Floats) -> None:
    """Anew those of which a rough one reaches so much."""
    for number in range(len(tops) * part // parts, len(tops) * (part + 1) // parts):
        if tops[number] >= least:
            for v in range(number * LANES, (number + 1) * LANES):
                if logits[v] >= least:
                    product(weight[v : v + 1], x, logits[v : v + 1])


@kept
def scored(halves: Floats, weight: Floats, x: Floats, exact: int, logits: Floats, parts: int) -> None:
    """The sum of two products [2*V] to logits [V], and weight [V, I] @ x [I] itself to the highest of them: so many at
    least, where V has as many registers."""
    tops = np.empty(len(logits) // LANES, np.float32)
    share(_add_some, parts, halves, logits, tops)
    # what so many registers reach is reached by as many logits at least, and so by all of the best
    share(_score_some, parts, weight, x, tops, _reached(tops, exact), logits)
