"""How many threads compiled code may use."""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module

import numba
import torch

TOKENS = 128
"""Of a prompt, or to attend to, that take a thread longer than to wake; to take them through linears, a few do"""


def threads() -> int:
    """As many as torch uses, or 1 where numba has no OpenMP to start them with.

    Its other ways are no choice: one stops the program when two sessions start at once, one has to be installed. On
    Linux OpenMP's threads soon sleep when they have nothing to do, so that torch's have the cores in between.
    """
    return min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS) if _has_openmp() else 1


@cache
def _has_openmp() -> bool:
    if sys.platform != "linux":
        return False
    try:
        import_module("numba.np.ufunc.omppool")
    except ImportError:
        return False
    numba.config.THREADING_LAYER = "omp"
    return True
