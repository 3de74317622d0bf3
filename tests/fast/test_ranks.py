"""The way down into ranks, and what routers make of tokens, in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit

from molora.fast.kernel.dots import ROWS, TOKENS
from molora.fast.kernel.ranks import down_room, go_down
from tests.fast.test_lowering import as_bfloat16, as_float32


def _go_down(weight: Any, x: Any, tokens: Any, h: Any) -> None:
    go_down(weight, x, tokens, h, down_room(x, weight))


_down = njit(_go_down)


@pytest.mark.parametrize("narrow", [False, True])  # bfloat16
@pytest.mark.parametrize("count", [1, TOKENS, 2 * TOKENS + 1])
@pytest.mark.parametrize("rank", [1, ROWS, 2 * ROWS + 1, 16])
@pytest.mark.parametrize("width", [16, 1552])  # more than what is read at once, twice
def test_any_tokens_go_down_into_any_ranks_as_in_float64(width: int, rank: int, count: int, narrow: bool) -> None:
    random = np.random.default_rng(0)
    weight, x = random.normal(size=(rank, width)), random.normal(size=(count + 3, width)).astype(np.float32)
    given = as_bfloat16(weight) if narrow else weight.astype(np.float32)
    tokens, h = random.integers(0, len(x), count), np.full((count + 1, rank + 2), np.nan, np.float32)
    _down(given, x, tokens, h)
    read, wide = x[tokens].astype(float), (as_float32(given) if narrow else given).astype(float)
    # float32 rounds at 6e-8 of what it adds up, be the sum small
    assert (np.abs(h[:count, :rank] - read @ wide.T) < 2e-7 * (np.abs(read) @ np.abs(wide).T)).all()
    assert np.isnan(h[count]).all(), "nothing else is written"
    assert np.isnan(h[:, rank:]).all(), "nothing else is written"
