"""How many threads compiled code may use."""

from __future__ import annotations

import torch

from molora.fast.kernel.parallel import OPENMP

TOKENS = 128
"""Of a prompt, or to attend to, that take a thread longer than to wake; to take them through linears, a few do"""


def threads() -> int:
    """As many as torch uses, or 1 where there is no OpenMP that starts them."""
    return torch.get_num_threads() if OPENMP else 1
