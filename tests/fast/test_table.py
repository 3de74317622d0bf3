from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from numba import njit

from molora.fast.kernel import Table
from molora.fast.kernel.table import row


def _read(table: Any, number: int) -> Any:
    (factor, words), (floats,) = row(table, number)
    return factor, words.copy(), floats.copy(), words.shape, floats[1:, 1].sum()


def _write(table: Any) -> None:
    (_, words), _ = row(table, 1)
    words[1, 2] = -7


read, write = njit(_read), njit(_write)


def entry(number: int, rows: int) -> Any:
    words = np.arange(rows * 3, dtype=np.int32).reshape(rows, 3) + 100 * number
    return (number / 4, words), (np.full((rows, 2), number, np.float32),)


def test_each_row_is_read_as_it_was_given() -> None:
    given = [entry(number, rows) for number, rows in enumerate((2, 5, 0))]
    table = Table(given)
    gc.collect()
    for number, ((factor, words), (floats,)) in enumerate(given):
        found = read(table, number)
        assert found[0] == factor
        np.testing.assert_array_equal(found[1], words)
        np.testing.assert_array_equal(found[2], floats)
        assert found[3] == words.shape
        assert found[4] == floats[1:, 1].sum()


def test_arrays_live_as_long_as_the_table() -> None:
    table = Table([entry(number, 1000) for number in range(4)])
    gc.collect()
    others = [np.ones((1000, 3), np.int32) for _ in range(20)]  # where theirs would be, had they been let go
    for number in range(4):
        np.testing.assert_array_equal(read(table, number)[1], entry(number, 1000)[0][1])
    assert len(others) == 20


def test_what_is_written_to_a_row_is_in_the_array() -> None:
    given = [entry(0, 2), entry(1, 2)]
    write(Table(given))
    assert given[1][0][1][1, 2] == -7


def test_rows_of_several_types_are_refused() -> None:
    (factor, words), rest = entry(0, 2)
    with pytest.raises(TypeError, match="one type"):
        Table([((factor, words), rest), ((factor, words.astype(np.int64)), rest)])
    with pytest.raises(TypeError, match="one type"):
        Table([((factor, words), rest), ((factor, words.T), rest)])
    with pytest.raises(TypeError, match="one type"):
        Table([])
