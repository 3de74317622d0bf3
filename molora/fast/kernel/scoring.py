"""A vocabulary's logits from two halves of each weight, of 4 bits: rough for all of it, exact for the best."""

from __future__ import annotations

import numpy as np
from numba import prange

from molora.fast.kernel.keeping import shared
from molora.fast.kernel.lanes import LANES, Floats, greatest, load, store
from molora.fast.kernel.products import product


@shared
def scored(halves: Floats, weight: Floats, x: Floats, exact: int, logits: Floats, parts: int) -> None:
    """The sum of two products [2*V] to logits [V], and weight [V, I] @ x [I] itself to the highest of them: so many at
    least, where V has as many registers."""
    registers = len(logits) // LANES
    tops = np.empty(registers, np.float32)
    for part in prange(parts):
        for number in range(registers * part // parts, registers * (part + 1) // parts):
            sum_ = load(halves, number * LANES) + load(halves, len(logits) + number * LANES)
            store(logits, number * LANES, sum_)
            tops[number] = greatest(sum_)
    # what so many registers reach is reached by as many logits at least, and so by all of the best
    least = np.partition(tops, registers - exact)[registers - exact]
    for part in prange(parts):
        for number in range(registers * part // parts, registers * (part + 1) // parts):
            if tops[number] >= least:
                for v in range(number * LANES, (number + 1) * LANES):
                    if logits[v] >= least:
                        product(weight[v : v + 1], x, logits[v : v + 1])
