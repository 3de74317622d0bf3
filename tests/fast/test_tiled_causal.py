"""Attention of many tokens in bfloat16 against the formula in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from molora.fast import kernel
from molora.fast.adapter import numbers
from molora.fast.kernel.several import WIDTH

NOTHING_HIDDEN = np.empty((0, 0), np.float32)
ROOM = 640


def plain(query: Tensor, keys: Tensor, values: Tensor, seen: Tensor) -> Tensor:
    """[N, H, D]"""
    keys, values = (one.double().repeat_interleave(len(query) // len(one), 0) for one in (keys, values))
    scores = (query.double() @ keys.mT).masked_fill(~seen, -torch.inf)
    return (scores.softmax(-1) @ values).transpose(0, 1)


def attended(query: Tensor, kept: Tensor, length: int, parts: int, hidden: Tensor | None = None) -> Tensor:
    (heads, count, size), groups = query.shape, kept.shape[1]
    y = torch.full((count, heads, size), torch.nan)
    places = kept[0].data_ptr(), kept[1].data_ptr(), (groups, ROOM, length)
    given = NOTHING_HIDDEN if hidden is None else hidden.numpy()
    kernel.attended_in_tiles(numbers(query), *places, given, y.numpy(), parts)
    return y


def assert_near(given: Tensor, expected: Tensor) -> None:
    assert (given - expected).abs().max() < 0.02
    assert (given - expected).abs().mean() < 2**-8 * expected.std()


def inputs(heads: int, groups: int, count: int, size: int) -> tuple[Tensor, Tensor]:
    """Queries in bfloat16, keys and values with something in common and with room beyond them."""
    torch.manual_seed(count)
    kept = torch.randn(2, groups, ROOM, size)
    kept[0] += 3 * torch.randn(groups, 1, size)
    return (torch.randn(heads, count, size) / size**0.5).bfloat16(), kept.half()


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize(("tokens", "past"), [(1, 0), (7, 13), (129, 70), (300, 0), (40, 400)])
@pytest.mark.parametrize(("heads", "groups", "size"), [(4, 4, 32), (9, 3, 64)])
def test_is_the_formula(heads: int, groups: int, size: int, tokens: int, past: int, parts: int) -> None:
    query, kept = inputs(heads, groups, tokens, size)
    kept[:, :, past + tokens :] = torch.nan  # room that is not filled
    keys, values = kept[:, :, : past + tokens]
    seen = torch.ones(tokens, past + tokens, dtype=torch.bool).tril(past)
    assert_near(attended(query, kept, past + tokens, parts), plain(query, keys, values, seen))


@pytest.mark.parametrize("parts", [1, 3])
def test_none_sees_what_is_hidden(parts: int) -> None:
    query, kept = inputs(4, 2, 40, 32)
    owners = torch.arange(70) % 3
    seen = (owners[30:, None] == owners).tril(30)  # [40, 70]
    hidden = torch.zeros(40, -(-70 // WIDTH) * WIDTH)
    hidden[:, :70].masked_fill_(~seen, -torch.inf)
    expected = plain(query, kept[0, :, :70], kept[1, :, :70], seen)
    assert_near(attended(query, kept, 70, parts, hidden), expected)
    kept[1, :, :70][:, owners == 0] = 6e4  # of which nothing may be left
    others = owners[30:] != 0
    assert_near(attended(query, kept, 70, parts, hidden)[others], expected[others])


def test_none_sees_a_later_one() -> None:
    query, kept = inputs(2, 2, 70, 32)
    before = attended(query, kept, 70, 1)
    kept[1, :, 40:] = 6e4
    assert torch.equal(attended(query, kept, 70, 1)[:40], before[:40])
