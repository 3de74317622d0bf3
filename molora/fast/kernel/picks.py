"""Which experts a router picks."""

from __future__ import annotations

import math

import numpy as np

from molora.fast.kernel.keeping import inner
from molora.fast.kernel.lanes import Floats


@inner
def pick(row: Floats, masks: Floats, top_k: int) -> None:
    """What `layers.choose` gives for one router: row [E+2K] holds logits and takes ids and weights; masks [4, E]."""
    offset, kept, shift, sharpness = masks
    experts = offset.shape[0]
    logits, ids, weights = row[:experts], row[experts : experts + top_k], row[experts + top_k :]
    for k in range(top_k):
        best = -1
        for e in range(experts):
            taken = False
            for j in range(k):
                taken |= int(ids[j]) == e
            if not taken and (best < 0 or logits[e] + offset[e] > logits[best] + offset[best]):
                best = e
        ids[k], weights[k] = best, logits[best] + shift[best]
    for k in range(1, top_k):  # strongest first, which they are already where no edit ranks them otherwise
        e, picked, j = ids[k], weights[k], k - 1
        while j >= 0 and weights[j] < picked:
            ids[j + 1], weights[j + 1] = ids[j], weights[j]
            j -= 1
        ids[j + 1], weights[j + 1] = e, picked
    strongest, total = weights[0] * sharpness[0], np.float32(0)
    for k in range(top_k):
        weights[k] = math.exp(weights[k] * sharpness[0] - strongest)
        total += weights[k]
    for k in range(top_k):
        weights[k] /= total
        if kept[int(ids[k])] == 0:
            ids[k], weights[k] = -1, 0
