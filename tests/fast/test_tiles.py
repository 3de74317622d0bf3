"""Products of bfloat16 by tiles against torch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numba import njit
from torch import Tensor

from molora.fast.adapter import numbers
from molora.fast.kernel import TILES
from molora.fast.kernel.numbers import address_of
from molora.fast.kernel.several import WIDTH
from molora.fast.kernel.tiles import GROUP, SIDE, STEP, done, halves_at, in_lanes, in_tiles, lines_at, ready

AHEAD = 0, 3
"""Asking for what there is not must do nothing."""
with_tiles = pytest.mark.skipif(not TILES, reason="this CPU has no AMX")
WAYS = ["lanes", pytest.param("tiles", marks=with_tiles)]


def _by_lanes(x: Any, panel: Any, h: Any, bank: Any, start: Any, y: Any, rows: int) -> None:
    (read, low), (begin, to) = (lines_at(x), lines_at(h)), (halves_at(start), halves_at(y))
    each = address_of(panel, 0), address_of(bank, 0)
    in_lanes(read, each[0], len(panel) // SIDE, low, each[1], len(bank) // SIDE, begin, to, rows, AHEAD)


def _by_tiles(x: Any, panel: Any, h: Any, bank: Any, start: Any, y: Any, rows: int) -> None:
    (read, low), (begin, to) = (lines_at(x), lines_at(h)), (halves_at(start), halves_at(y))
    each = address_of(panel, 0), address_of(bank, 0)
    ready()
    in_tiles(read, each[0], len(panel) // SIDE, low, each[1], len(bank) // SIDE, begin, to, rows, AHEAD)
    done()


by_lanes, by_tiles = njit(_by_lanes), njit(_by_tiles)


def panel_of(weight: Tensor) -> Any:
    """bfloat16 [I, `WIDTH`] by pairs along I, [I/2, 2*`WIDTH`]."""
    return numbers(weight.unflatten(0, (-1, 2)).transpose(1, 2).flatten(1).contiguous())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rows", [1, 7, SIDE, SIDE + 1, GROUP])
@pytest.mark.parametrize("halves", [1, 2])
def test_a_product_is_torchs(way: str, rows: int, halves: int) -> None:
    torch.manual_seed(rows)
    x, h = torch.randn(GROUP, 3 * STEP).bfloat16(), torch.randn(GROUP, 2 * STEP).bfloat16()
    weight, more = torch.randn(2 * STEP, WIDTH).bfloat16(), torch.randn(STEP, WIDTH).bfloat16()
    start, y = torch.randn(GROUP, 100), torch.full((GROUP, 120), 7.0)
    half, apart = WIDTH // 2, (WIDTH // 2 + 5) * (halves - 1)  # the second register may lie anywhere
    read = numbers(x).reshape(-1), STEP, x.shape[1]  # from the second step on
    low = numbers(h).reshape(-1), 0, h.shape[1]
    begin, to = (start.numpy().reshape(-1), 3, 100, apart), (y.numpy().reshape(-1), 2, 120, apart)
    (by_tiles if way == "tiles" else by_lanes)(read, panel_of(weight), low, panel_of(more), begin, to, rows)
    expected = x[:rows, STEP:].float() @ weight.float() + h[:rows, :STEP].float() @ more.float()
    untouched = torch.full_like(y, 7)
    for number in range(halves):
        columns = slice(number * half, number * half + half)
        first, at = 3 + number * apart, 2 + number * apart
        untouched[:rows, at : at + half] = expected[:, columns] + start[:rows, first : first + half]
    torch.testing.assert_close(y, untouched, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_a_start_may_be_one_line_for_all(way: str) -> None:
    x, weight = torch.ones(GROUP, STEP).bfloat16(), torch.ones(STEP, WIDTH).bfloat16()
    bias, y = torch.arange(float(WIDTH)), torch.empty(GROUP, WIDTH)
    lines, none = (numbers(x).reshape(-1), 0, STEP), np.empty((0, 2 * WIDTH), np.uint16)
    start, to = (bias.numpy(), 0, 0, WIDTH // 2), (y.numpy().reshape(-1), 0, WIDTH, WIDTH // 2)
    (by_tiles if way == "tiles" else by_lanes)(lines, panel_of(weight), lines, none, start, to, GROUP)
    assert torch.equal(y, (bias + STEP).expand(GROUP, -1))
