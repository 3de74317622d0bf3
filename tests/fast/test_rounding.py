"""Numbers in bfloat16 as products take them, against torch's own rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from molora.fast.kernel.lanes import LANES
from molora.fast.kernel.rounding import braid, round_row, unpack_rounded
from molora.fast.kernel.several import WIDTH
from molora.fast.levels import Levels


def _plainly_round(x: Any, to: Any, rest: Any) -> None:
    round_row(x, to, rest)


def _plainly_unpack(words: Any, panel: Any) -> None:
    unpack_rounded(words[0], 0, panel)
    unpack_rounded(words[1], LANES, panel)


def _plainly_braid(matrix: Any, panel: Any) -> None:
    braid(matrix, 0, WIDTH, WIDTH, panel, 0)


_round, _unpack, _braid = njit(_plainly_round), njit(_plainly_unpack), njit(_plainly_braid)
"""For numbers of Python: what they call has no way in from it."""


def floats(bits: Any) -> Tensor:
    return torch.from_numpy(bits).view(torch.bfloat16).float()


def by_pairs(x: Tensor) -> Tensor:
    """x [.., I] in the order of levels: beside each of the first four of eight the one four places on."""
    return x.unflatten(-1, (-1, 2, 4)).mT.flatten(-3)


def test_a_row_and_what_is_left_of_it() -> None:
    torch.manual_seed(0)
    x = torch.randn(96)
    to, rest = np.zeros((2, 96), np.uint16)
    _round(x.numpy(), to, rest)
    near = x.bfloat16().float()
    assert torch.equal(floats(to), by_pairs(near))
    assert torch.equal(floats(rest), by_pairs((x - near).bfloat16().float()))


def test_weights_are_those_of_torch_rounded() -> None:
    torch.manual_seed(0)
    levels = torch.randint(0, 16, (WIDTH, 3, 32))
    scales, centres = (torch.randn(WIDTH, 3).bfloat16().float() for _ in range(2))
    panel = np.zeros((48, 2 * WIDTH), np.uint16)
    _unpack(Levels.pack(levels, scales, centres).words, panel)
    exact = ((levels - 8).double() * scales[..., None] + centres[..., None]).flatten(1)  # [`WIDTH`, 96]
    expected = by_pairs(exact.float().bfloat16().float()).unflatten(-1, (-1, 2))  # [`WIDTH`, 48, 2]
    given = floats(panel).unflatten(-1, (-1, 2)).transpose(0, 1)
    digit = 2.0**-8 * expected.abs() + 1e-6
    assert ((given - expected).abs() <= digit).all(), "no more than one digit, where float32 itself rounds"
    assert (given != expected).float().mean() < 0.01


def test_two_lines_are_braided() -> None:
    matrix, panel = torch.randn(2, WIDTH), np.zeros(2 * WIDTH, np.uint16)
    _braid(matrix.numpy().reshape(-1), panel)
    assert torch.equal(floats(panel).view(-1, 2), matrix.T.bfloat16().float())
