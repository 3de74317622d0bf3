"""What a model is made of, as compiled code takes it.

Axes: see `kernel`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from molora.fast.kernel.keeping import inner
from molora.fast.kernel.lanes import Floats, Narrow

Adapter = tuple[Narrow, Floats, Narrow, NDArray[np.int32], Narrow, float]
"""Routers [P, E, I] and their bias [P, E], none where there is but one expert, plain LoRA; A [P, E, R, I], and where a
prompt's tokens go down in whole numbers in words [P, E, Q, G, any] too, see `lowering`; B by panels [E, panels,
R, `WIDTH`], see `layout`; and the scaling"""

Linears = tuple[NDArray[np.int32], NDArray[np.int64], Floats, Adapter]
"""Of those that read one input: words as in `levels.multiplied`, where each one's results begin in a row [P+1], their
bias [P*O] and their adapter"""

Norm = tuple[Floats, float]
"""RMSNorm's weight [I], empty for none, and epsilon"""

Layer = tuple[Norm, Linears, Linears, Norm, Linears, Linears]
"""A norm, queries with keys and values, and what takes back what heads find; a norm, gate with up, and down"""


@inner
def width_of(linears: Linears) -> int:
    """P*O"""
    _, first, _, _ = linears
    return first[-1]


@inner
def routers_of(linears: Linears) -> int:
    """P, or 0 for none."""
    _, _, _, (router, _, _, _, _, _) = linears
    return len(router)
