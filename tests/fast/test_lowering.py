"""The way down into ranks in whole numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit

from molora.fast.kernel.lanes import LANES
from molora.fast.kernel.levels import MOST
from molora.fast.kernel.lowering import beside, laid, lowered
from molora.fast.kernel.several import TOGETHER, tokens_of
from molora.fast.layout import way_down

RANKS = [1, LANES // 2, LANES, LANES + 3]
_ORDER = [at for first in range(0, 32, 8) for pair in range(4) for at in (first + pair, first + pair + 4)]
"""Which of a block's inputs stand where in whole numbers"""


def _lower(words: Any, which: int, whole: Any, steps: Any, order: Any, gates: Any, h: Any) -> None:
    for group in range(len(order)):
        laid(lowered(words, which, (whole, steps), tokens_of(order, group)), gates, group, h, group)


_down = njit(_lower)


def down(a: Any, whole: Any, steps: Any, order: Any, gates: Any) -> Any:
    """[M, R]: what A [R, I] makes of whole numbers [N, I] times steps [N, G], tokens by an order [groups, T]."""
    words, rank = way_down(a[None, None]), len(a)
    h = np.full((len(order), LANES // beside(rank), TOGETHER), np.nan, np.float32)
    made = []
    for q in range(words.shape[2]):
        _down(words, q, whole, steps, order, gates, h)
        made.append(h.transpose(0, 2, 1).reshape(-1, h.shape[1]).copy())
    return np.concatenate(made, axis=1)[:, :rank]


def some_tokens(blocks: int, count: int = 9) -> tuple[Any, Any, Any]:
    """Whole numbers and steps, and what they stand for [N, I]."""
    random = np.random.default_rng(0)
    whole = random.integers(-MOST, MOST, (count, blocks * 32), np.int16, endpoint=True)
    steps = random.uniform(0.5, 1.5, (count, blocks)).astype(np.float32) / MOST
    x = np.empty((count, blocks, 32))
    x[:, :, _ORDER] = whole.reshape(x.shape) * steps[..., None].astype(float)
    return whole, steps, x.reshape(whole.shape)


def as_bfloat16(weights: Any) -> Any:
    return (weights.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def as_float32(narrow: Any) -> Any:
    return (narrow.astype(np.uint32) << 16).view(np.float32)


ORDER = np.array([[3, 1, 4, 1, 5, 0][:TOGETHER], [8, 2, 7, 7, 7, 7][:TOGETHER]])


@pytest.mark.parametrize("rank", RANKS)
def test_tokens_go_down_as_in_float64(rank: int) -> None:
    a = as_bfloat16(np.random.default_rng(1).normal(size=(rank, 96)))
    whole, steps, x = some_tokens(3)
    gates = np.array([[1, 2, 0.5, 0, 1, 3][:TOGETHER], [1] * TOGETHER], np.float32)
    expected = (x @ as_float32(a).T)[ORDER.reshape(-1)] * gates.reshape(-1, 1)
    found = down(a, whole, steps, ORDER, gates)
    assert np.linalg.norm(found - expected) < 2e-5 * np.linalg.norm(expected)


def test_what_bfloat16_says_of_weights_of_a_like_size_is_kept_to_the_bit() -> None:
    random = np.random.default_rng(2)
    signs = random.choice([-1.0, 1.0], (LANES, 64))
    a = as_bfloat16(signs * random.uniform(1, 64, (LANES, 64)) * 2.0 ** random.integers(-20, 20, (LANES, 1)))
    whole, steps = np.zeros((64, 64), np.int16), np.ones((64, 2), np.float32)
    whole[np.arange(64), np.arange(64)] = 1  # one input each
    order = np.resize(np.arange(64), (-(-64 // TOGETHER), TOGETHER))
    found = down(a, whole, steps, order, np.ones(order.shape, np.float32))[:64]
    inputs = np.arange(64) // 32 * 32 + np.resize(_ORDER, 64)
    assert (found == as_float32(a)[:, inputs].T).all()


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("rank", [LANES // 2, LANES])
def test_the_largest_sums_of_a_block_do_not_overflow(rank: int, sign: int) -> None:
    largest = 2**14 - 2**6  # the next bfloat16 is 2**14
    a, whole = as_bfloat16(np.full((rank, 32), largest)), np.full((1, 32), sign * MOST, np.int16)
    found = down(a, whole, np.ones((1, 1), np.float32), np.zeros_like(ORDER), np.ones(ORDER.shape, np.float32))
    np.testing.assert_allclose(found, sign * 32.0 * MOST * largest, rtol=1e-6)


@pytest.mark.parametrize("worst", [np.inf, -np.inf, np.nan])
def test_weights_that_are_no_numbers_show_unless_they_have_no_weight(worst: float) -> None:
    a = np.ones((2, 64), np.float32)
    a[1, 40] = worst
    whole, steps, x = some_tokens(2)
    gates = np.resize(np.array([1, 0], np.float32), ORDER.shape)
    found = down(as_bfloat16(a), whole, steps, ORDER, gates)
    assert (found[1::2] == 0).all()
    assert np.isnan(found[::2, 1]).all()
    np.testing.assert_allclose(found[::2, 0], x.sum(axis=1)[ORDER.reshape(-1)[::2]], rtol=1e-4, atol=1e-3)


def test_weights_too_small_to_scale_are_zeros() -> None:
    a = np.full((1, 64), 1e-38, np.float32)
    a[0, 32:] = 1e-20
    whole, steps, x = some_tokens(2)
    found = down(as_bfloat16(a), whole, steps, ORDER, np.ones(ORDER.shape, np.float32))
    tiny = as_float32(as_bfloat16(a))[0, 32]
    np.testing.assert_allclose(found[:, 0], tiny * x[ORDER.reshape(-1), 32:].sum(axis=1), rtol=1e-4, atol=1e-23)
