from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np
import pytest
from numba import njit, types

from molora.fast.kernel import parallel
from molora.fast.kernel.keeping import inner
from molora.fast.kernel.parallel import OPENMP, share

thread_number: Any = types.ExternalFunction("molora_omp_get_thread_num", types.int32())


def _counts(part: int, parts: int, seen: Any, given: tuple[Any, tuple[Any, float]], twice: bool) -> None:
    numbers, (others, factor) = given
    for at in range(len(numbers) * part // parts, len(numbers) * (part + 1) // parts):
        numbers[at] += others[at] * factor + twice
    seen[part, 0] += 1
    seen[part, 1] = thread_number()


def _fails(part: int, parts: int, wrong: int) -> None:
    if part == wrong:
        raise ValueError("lost on the way")


_count, _fail = inner(_counts), inner(_fails)


def _counted(seen: Any, numbers: Any, others: Any, factor: float, twice: bool, parts: int) -> None:
    share(_count, parts, seen, (numbers, (others, factor)), twice)


def _failing(wrong: int, parts: int) -> None:
    share(_fail, parts, wrong)


counted, failing = njit(_counted), njit(_failing)


@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_each_part_is_worked_on_once(parts: int) -> None:
    seen, numbers, others = np.zeros((parts, 2), np.int64), np.zeros(100), np.arange(100.0)
    for _ in range(3):
        counted(seen, numbers, others, 0.5, True, parts)
    assert (seen[:, 0] == 3).all()
    np.testing.assert_array_equal(numbers, 3 * (others * 0.5 + 1))


@pytest.mark.skipif(not OPENMP, reason="there is no OpenMP")
def test_each_part_has_its_own_thread_each_time() -> None:
    for _ in range(3):
        seen = np.zeros((2, 2), np.int64)
        counted(seen, np.zeros(4), np.zeros(4), 1.0, False, 2)
        assert seen[:, 1].tolist() == [0, 1]


def test_arrays_are_held_as_before() -> None:
    numbers = np.zeros(10)
    before = sys.getrefcount(numbers)
    for parts in (1, 2):
        counted(np.zeros((parts, 2), np.int64), numbers, np.ones(10), 1.0, False, parts)
    assert sys.getrefcount(numbers) == before


@pytest.mark.parametrize("parts", [1, 2])
def test_a_part_that_fails_is_told(parts: int) -> None:
    with pytest.raises(MemoryError, match="no room"):
        failing(parts - 1, parts)
    failing(-1, parts)


def test_there_may_be_no_openmp(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: Any) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert parallel._found() == []
    monkeypatch.undo()
    monkeypatch.setattr(sys, "platform", "win32")
    assert parallel._found() == []
