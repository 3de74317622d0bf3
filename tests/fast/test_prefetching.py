"""What is asked of memory ahead of time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit

from molora.fast.kernel import prefetching
from molora.fast.kernel.prefetching import LINE, lines_of, prefetch


def _asks(array: Any, at: int, lines: int) -> float:
    prefetch(array, at, lines)
    return float(array[0])


_ask = njit(_asks)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_memory_is_asked_and_nothing_beyond_an_array_is_read(dtype: type[np.generic]) -> None:
    array = np.arange(100, dtype=dtype)
    for at in (0, 99, 10**9, -(10**9)):  # far from all memory that the program has
        assert _ask(array, at, 3) == 0
    assert array.tolist() == list(range(100))
    asm = _ask.inspect_asm(_ask.signatures[-1])
    assert "prefetch" in asm or "prfm" in asm, "compiled to what CPUs have for it"


@pytest.mark.parametrize(("dtype", "count", "lines"), [(np.uint16, 32, 1), (np.uint16, 33, 2), (np.float32, 32, 2)])
def test_lines_are_counted_up(dtype: type[np.generic], count: int, lines: int) -> None:
    assert LINE == 64
    assert lines_of.py_func(np.empty(0, dtype), count) == lines


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_each_line_of_a_weight_is_asked_for_once(dtype: type[np.generic], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(prefetching, "prefetch", lambda array, at, lines: asked.append(at * array.itemsize))
    weight = np.ones((5, 33), dtype)
    prefetching.prefetch_rows.py_func(weight)
    assert asked == list(range(0, weight.nbytes, LINE))
