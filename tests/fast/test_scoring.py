"""Logits from two halves of each weight, exact for the best."""

from __future__ import annotations

import numpy as np
import pytest

from molora.fast.kernel import scored
from molora.fast.kernel.lanes import LANES

SIZE, EXACT = 48, 20


def _rough(registers: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Products with two halves of weights [2*V], the weights [V, I], and x [I], so that the sum is a little off."""
    random = np.random.default_rng(0)
    weight, x = random.normal(size=(registers * LANES, SIZE)).astype(np.float32), random.normal(size=SIZE)
    low = random.normal(size=len(weight))
    high = weight @ x - low + random.normal(scale=0.02, size=len(weight))
    return np.concatenate([high, low]).astype(np.float32), weight, x.astype(np.float32)


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("registers", [EXACT, EXACT + 1, 300])
def test_the_best_are_exact_and_the_rest_are_the_halves_sum(registers: int, parts: int) -> None:
    halves, weight, x = _rough(registers)
    logits = np.full(len(weight), np.nan, np.float32)
    scored(halves, weight, x, EXACT, logits, parts)
    rough, exact = halves[: len(weight)] + halves[len(weight) :], weight @ x
    best = np.argsort(-rough)[:EXACT]
    np.testing.assert_allclose(logits[best], exact[best], rtol=1e-5, atol=1e-5)
    assert np.abs(rough[best] - exact[best]).max() > 1e-3, "they were not before"
    anew = logits != rough
    assert EXACT <= anew.sum() < EXACT * LANES, "not all that stand beside one of them"
    np.testing.assert_allclose(logits[anew], exact[anew], rtol=1e-5, atol=1e-5)


def test_equal_ones_are_all_exact() -> None:
    halves, weight, x = _rough(30)
    logits = np.empty(len(weight), np.float32)
    scored(np.zeros_like(halves), weight, x, EXACT, logits, 1)
    np.testing.assert_allclose(logits, weight @ x, rtol=1e-5, atol=1e-5)


def test_what_is_no_number_stays_none() -> None:
    halves, weight, x = _rough(30)
    logits = np.empty(len(weight), np.float32)
    scored(np.full_like(halves, np.nan), weight, x, EXACT, logits, 1)
    assert np.isnan(logits).all()
