"""How threads divide what one token goes through.

A register of rows of the base's weights is the measure: before each linear's own stands what its adapter costs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from molora.fast.kernel.keeping import inner
from molora.fast.kernel.lanes import LANES
from molora.fast.kernel.layers import Linears


@inner
def costs_of(linears: Linears, adds: bool, top_k: int) -> NDArray[np.int64]:
    """How many registers of rows take as many bytes as what one token needs of each linear's adapter [P]."""
    words, first, _, (router, _, a, _, up, _) = linears
    _, count, rank, size = a.shape
    costs = np.zeros(len(first) - 1, np.int64)
    for p in range(len(costs) if adds else 0):
        routed = count * size * router.itemsize if len(router) > 0 else 0
        picked = top_k * rank * (size * a.itemsize + (first[p + 1] - first[p]) * up.itemsize)
        costs[p] = (routed + picked) // (max(1, words.shape[1]) * words.itemsize)
    return costs


@inner
def divided(first: NDArray[np.int64], costs: NDArray[np.int64], parts: int) -> NDArray[np.int64]:
    """Where parts of the work begin, and the last one ends [parts+1], in registers of rows: before each linear's own
    comes what its adapter costs, which is one part's."""
    ends, total = np.empty(parts + 1, np.int64), first[-1] // LANES
    for p in range(len(costs)):
        total += costs[p]
    for part in range(parts + 1):
        ends[part], start = total * part // parts, 0
        for p in range(len(costs)):
            ahead = ends[part] - start
            if 0 < ahead < costs[p]:
                ends[part] += -ahead if 2 * ahead < costs[p] else costs[p] - ahead
            start += costs[p] + (first[p + 1] - first[p]) // LANES
    return ends
