"""The attention of prompts against the formula, written out in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from molora.fast.attention import attention_of_many

SHAPES = [(9, 3, 300, 0), (4, 4, 128, 0), (2, 1, 129, 70), (6, 2, 5, 400), (3, 3, 1, 0)]
"""Heads, key heads, tokens, tokens before them"""


def inputs(heads: int, groups: int, count: int, past: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(count)
    query = torch.randn(count, heads, 16).transpose(0, 1)  # as the lean pass has them: heads are no outer axis
    keys, values = torch.randn(2, groups, past + count, 16)
    return query, keys, values


def plain(query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """Softmax over the keys up to each token's own."""
    heads, count, _ = query.shape
    keys, values = (each.double().repeat_interleave(heads // len(each), 0) for each in (keys, values))
    scores = query.double() @ keys.mT * scale  # [H, N, T]
    seen_by = torch.ones(scores.shape[1:], dtype=torch.bool).tril(keys.shape[1] - count)
    return scores.masked_fill(~seen_by, -torch.inf).softmax(-1) @ values


@pytest.mark.parametrize("shape", SHAPES)
def test_is_the_formula(shape: tuple[int, int, int, int]) -> None:
    query, keys, values = inputs(*shape)
    y = attention_of_many(query * 0.25, keys, values, torch.float32)
    torch.testing.assert_close(y.double(), plain(query, keys, values, 0.25), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_in_bfloat16_but_for_its_rounding(shape: tuple[int, int, int, int]) -> None:
    query, keys, values = inputs(*shape)
    y = attention_of_many(query * 0.25, keys, values, torch.bfloat16)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.double(), plain(query, keys, values, 0.25), rtol=2e-2, atol=2e-2)


def test_what_all_keys_share_costs_no_digits() -> None:
    query, keys, values = inputs(9, 3, 300, 0)
    y = attention_of_many(query * 0.25, keys + 50 * torch.randn(3, 1, 16), values, torch.bfloat16)
    torch.testing.assert_close(y.double(), plain(query, keys, values, 0.25), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("hidden", [True, False])
def test_what_is_kept_in_float16_is_read_as_if_it_were_float32(dtype: torch.dtype, hidden: bool) -> None:
    query, keys, values = inputs(4, 2, 30, 20)
    keys, values = (keys + 300).half(), values.half()
    seen = (torch.rand(30, 50) < 0.5).tril(20) | torch.eye(30, 50, dtype=torch.bool) if hidden else None
    y = attention_of_many(query, keys, values, dtype, seen)
    assert torch.equal(y, attention_of_many(query, keys.float(), values.float(), dtype, seen))


def test_no_token_sees_a_later_one() -> None:
    query, keys, values = inputs(2, 2, 200, 0)
    before = attention_of_many(query * 0.25, keys, values, torch.bfloat16)
    values[:, 150:] = torch.nan
    after = attention_of_many(query * 0.25, keys, values, torch.bfloat16)
    assert torch.equal(before[:, :128], after[:, :128])  # the rest of its rows meets nan times 0
