"""Which experts a router picks."""

from __future__ import annotations

import math

import numpy as np

from molora.fast.kernel.keeping import inner
from molora.fast.kernel.lanes import Floats


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
