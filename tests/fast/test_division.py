"""How threads divide what one token goes through."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import pytest

from molora.fast.kernel.division import costs_of, divided
from molora.fast.kernel.lanes import LANES

SITES = [((36,), (6,)), ((96, 96), (10, 10)), ((36, 12, 12), (2, 1, 1)), ((7,), (40,)), ((5, 3), (0, 0))]
"""Registers of each linear's rows, and what its adapter costs"""


def _divide(registers: tuple[int, ...], costs: tuple[int, ...], parts: int) -> list[int]:
    first = LANES * np.array([0, *accumulate(registers)])
    return divided.py_func(first, np.array(costs), parts).tolist()


@pytest.mark.parametrize("parts", [1, 2, 3, 5, 16])
@pytest.mark.parametrize(("registers", "costs"), SITES)
def test_all_of_it_is_some_part_and_no_adapter_is_divided(
    registers: tuple[int, ...], costs: tuple[int, ...], parts: int
) -> None:
    ends = _divide(registers, costs, parts)
    assert len(ends) == parts + 1
    assert (ends[0], ends[-1]) == (0, sum(registers) + sum(costs))
    assert ends == sorted(ends)
    assert max(end - begin for begin, end in pairwise(ends)) <= -(-ends[-1] // parts) + max(costs)
    starts = list(accumulate(map(sum, zip(registers, costs, strict=True)), initial=0))
    for start, cost in zip(starts, costs, strict=False):
        assert not any(start < end < start + cost for end in ends)
        assert sum(begin <= start < end for begin, end in pairwise(ends)) == 1, "one part's, be another empty"


def test_two_threads_have_as_much_to_read() -> None:
    assert _divide((96, 96), (10, 10), 2) == [0, 106, 212], "a linear each"
    assert _divide((36,), (6,), 2) == [0, 21, 42], "one has the adapter and 15 of 36"


@pytest.mark.parametrize("routed", [False, True])
def test_an_adapter_costs_what_one_token_reads_of_it(routed: bool) -> None:
    size, experts, rank, rows = 64, 8 if routed else 1, 4, 6 * LANES
    router: Any = np.empty((1, experts, size), np.float32) if routed else np.empty((0, 0, 0), np.uint16)
    a, up = np.empty((1, experts, rank, size), np.uint16), np.empty((experts, 3, rank, 2 * LANES), np.uint16)
    words, top_k = np.empty((6, size // 32 * LANES), np.int32), 2 if routed else 1
    linears: Any = words, np.array([0, rows]), None, (router, None, a, None, up, 1.0)
    picked = top_k * rank * (size + rows) * 2 + router.nbytes
    assert costs_of.py_func(linears, True, top_k).tolist() == [picked // words[0].nbytes]
    assert costs_of.py_func(linears, False, top_k).tolist() == [0]
