"""The compiled functions alone against torch's; with adapters: `test_compiled_adapters.py`, `test_linears.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numba import njit
from torch import Tensor

from molora.fast import kernel
from molora.fast.adapter import numbers
from molora.fast.kernel.keeping import kept
from molora.fast.kernel.numbers import exp
from molora.fast.kernel.several import WIDTH

NOTHING_HIDDEN = np.empty((0, 0), np.float32)


def assert_equal(given: Any, expected: Any) -> None:
    """But for float32's rounding."""
    torch.testing.assert_close(given, expected, rtol=1e-5, atol=1e-5)


def attended(query: Tensor, scale: float, keys: Tensor, values: Tensor, parts: int) -> Tensor:
    """Keys and values may be the first of those that there is room for."""
    shape, y = (len(keys), keys.stride(0) // keys.shape[2], keys.shape[1]), torch.full_like(query, torch.nan)
    places = keys.data_ptr(), values.data_ptr(), shape, numbers(keys[:, :0])
    kernel.attended(query.numpy(), scale, *places, y.numpy(), parts)
    return y


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("parts", [1, 2, 5])
@pytest.mark.parametrize("tokens", [5, 7, 300])
@pytest.mark.parametrize(("heads", "groups", "size"), [(4, 4, 16), (9, 3, 64), (3, 1, 80), (8, 2, 48)])
def test_attention_agrees_with_torch(
    heads: int, groups: int, size: int, tokens: int, parts: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)  # a score's last place is as much as is allowed
    query, kept = 3 * torch.randn(heads, size), torch.randn(2, groups, 310, size).to(dtype)
    kept[:, :, tokens:] = torch.nan  # room that is not filled
    keys, values = kept[:, :, :tokens]
    wide = keys.float(), values.float()
    expected = F.scaled_dot_product_attention(query[:, None], *wide, scale=0.4, enable_gqa=True)[:, 0]
    assert_equal(attended(query, 0.4, keys, values, parts), expected)


@pytest.mark.parametrize("parts", [1, 2, 5])
@pytest.mark.parametrize(("tokens", "past"), [(1, 0), (7, 13), (100, 0), (40, 300)])
@pytest.mark.parametrize(("heads", "groups", "size"), [(4, 4, 32), (9, 3, 64)])
def test_attention_of_many_agrees_with_torch(
    heads: int, groups: int, size: int, tokens: int, past: int, parts: int
) -> None:
    query, kept = 3 * torch.randn(heads, tokens, size), torch.randn(2, groups, 350, size)
    total = past + tokens
    kept[:, :, total:] = torch.nan  # room that is not filled
    keys, values = kept[:, :, :total]
    seen = torch.ones(tokens, total, dtype=torch.bool).tril(past)
    expected = F.scaled_dot_product_attention(query, keys, values, seen, scale=1.0, enable_gqa=True)
    y = torch.full((tokens, heads, size), torch.nan)
    places = keys.data_ptr(), values.data_ptr(), (groups, 350, total)
    kernel.attended_by_many(query.numpy(), *places, NOTHING_HIDDEN, y.numpy(), parts)
    assert_equal(y.transpose(0, 1), expected)


def test_of_many_none_sees_a_later_one() -> None:
    query, keys = torch.randn(2, 40, 32), torch.randn(2, 40, 32)
    values = torch.randn(2, 40, 32)
    values[:, 20:] = torch.inf  # times anything but 0 it would show
    y = torch.empty(40, 2, 32)
    kernel.attended_by_many(
        query.numpy(), keys.data_ptr(), values.data_ptr(), (2, 40, 40), NOTHING_HIDDEN, y.numpy(), 1
    )
    assert y[:18].isfinite().all(), "but those of the same six as a later one, where 0 times infinity is no number"


@pytest.mark.parametrize("parts", [1, 3])
def test_of_many_none_sees_what_is_hidden(parts: int) -> None:
    query, keys, values = torch.randn(4, 40, 32), torch.randn(2, 70, 32), torch.randn(2, 70, 32)
    owners = torch.arange(70) % 3
    seen = (owners[30:, None] == owners).tril(30)  # [40, 70]
    hidden = torch.zeros(40, -(-70 // WIDTH) * WIDTH)
    hidden[:, :70].masked_fill_(~seen, -torch.inf)
    expected = F.scaled_dot_product_attention(query, keys, values, seen, scale=1.0, enable_gqa=True)
    y = torch.empty(40, 4, 32)
    places = keys.data_ptr(), values.data_ptr(), (2, 70, 70)
    kernel.attended_by_many(query.numpy(), *places, hidden.numpy(), y.numpy(), parts)
    assert_equal(y.transpose(0, 1), expected)

    values[:, owners == 0] = 1e38  # of which not the smallest part may be left
    kernel.attended_by_many(query.numpy(), *places, hidden.numpy(), y.numpy(), parts)
    others = owners[30:] != 0
    assert_equal(y.transpose(0, 1)[:, others], expected[:, others])


@pytest.mark.parametrize("parts", [1, 3])
def test_norms_of_many_agree_with_torch(parts: int) -> None:
    x, weight = 3 * torch.randn(7, 64), torch.randn(64)
    y = torch.empty(7, 64)
    kernel.all_normed(x.numpy(), weight.numpy(), 1e-3, y.numpy(), parts)
    assert_equal(y, F.rms_norm(x, (64,), weight, 1e-3))


@pytest.mark.parametrize(("bound", "error"), [(1, 2e-7), (87, 5e-6)])
def test_the_exponential_is_as_exact_as_it_says(bound: float, error: float) -> None:
    def of_all(x: Any) -> Any:
        y = np.empty_like(x)
        for i in range(len(x)):
            y[i] = exp(x[i])
        return y

    x = np.linspace(-bound, bound, 10_001, dtype=np.float32)
    assert np.abs(njit(of_all)(x) / np.exp(x.astype(np.float64)) - 1).max() < error


def test_scores_far_apart_neither_overflow_nor_vanish() -> None:
    keys = F.pad(torch.tensor([[[1e4], [-1e4], [1e4], [9.9e3]]]), (0, 15)).contiguous()
    values = torch.tensor([[[1.0], [5.0], [3.0], [7.0]]]).expand(-1, -1, 16).contiguous()
    assert attended(torch.ones(1, 16), 1.0, keys, values, 2).tolist() == [[2] * 16]


def test_runs_where_no_folder_can_keep_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(**options: object) -> object:
        if options.get("cache"):
            raise RuntimeError("no locator available")
        return njit(**options)

    monkeypatch.setattr("molora.fast.kernel.keeping.njit", nowhere)
    assert kept(lambda one: one + 1)(2) == 3


@pytest.mark.parametrize(("dtype", "kept"), [(torch.float32, torch.float32), (torch.bfloat16, torch.float16)])
@pytest.mark.parametrize("parts", [1, 3])
def test_many_tokens_turn_as_torch_turns_them(dtype: torch.dtype, kept: torch.dtype, parts: int) -> None:
    heads, groups, size, count, place = 3, 1, 64, 7, 5
    states = torch.randn(count, heads + 2 * groups, size).to(dtype)
    cos, sin = torch.randn(2, count, size)
    query, buffer = states.new_empty(heads, count, size), torch.full((2, groups, 20, size), torch.nan, dtype=kept)
    kernel.all_turned(numbers(states), cos.numpy(), sin.numpy(), 0.5, numbers(query), numbers(buffer), place, parts)
    wide = states.float()
    turned = wide * cos[:, None] + wide.roll(size // 2, -1) * sin[:, None]  # [N, H+2G, D]
    near = 1e-5 if dtype == torch.float32 else 2**-8 + 1e-5  # to the nearest: half of a bfloat16's last place
    torch.testing.assert_close(query.float(), turned[:, :heads].transpose(0, 1) / 2, rtol=near, atol=1e-5)
    keys, values = buffer[:, :, place : place + count]
    near = 1e-5 if kept == torch.float32 else 2**-11 + 1e-5  # half of a float16's last place
    expected = turned[:, heads : heads + groups].transpose(0, 1)
    torch.testing.assert_close(keys.float(), expected, rtol=near, atol=1e-5)
    assert torch.equal(values, wide[:, heads + groups :].transpose(0, 1).to(kept))
    assert buffer.isnan().sum() == 2 * groups * (20 - count) * size, "nothing else is written"


def test_keys_and_values_beyond_float16_become_its_largest() -> None:
    limit = 65504.0
    states = torch.tensor([1e9, -1e9, limit, 3e-8] * 48).bfloat16().view(1, 3, 64)  # [N, H+2G, D]
    cos, sin = torch.ones(1, 64), torch.zeros(1, 64)
    query, buffer = states.new_empty(1, 1, 64), torch.zeros(2, 1, 1, 64).half()
    kernel.all_turned(numbers(states), cos.numpy(), sin.numpy(), 1.0, numbers(query), numbers(buffer), 0, 1)
    assert torch.equal(query[0], states[:, 0])
    for row in buffer.flatten(0, 2):
        assert row[:3].tolist() == [limit, -limit, limit]
        assert row[3] == torch.tensor(3e-8).half() != 0, "small ones do not vanish"


@pytest.mark.parametrize("seed", range(4))
def test_the_highest_logits_are_those_of_topk(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, 8 * kernel.BLOCK, generator=generator) * 4
    if seed == 0:
        logits[0, -3:] = 60  # equal, in the last places
    if seed == 1:
        logits[0, 5:11] = 30 + torch.arange(6)  # all in one block
    found = np.empty((2, 5), np.float32)
    kernel.best(logits.data_ptr(), logits.shape[1], found)
    ids = torch.from_numpy(found[:1]).long()  # [1, C]
    assert torch.equal(logits.gather(1, ids), logits.topk(5).values)
    assert len(set(ids[0].tolist())) == 5
    torch.testing.assert_close(torch.from_numpy(found[1:]), logits.softmax(-1).gather(1, ids), rtol=2e-5, atol=1e-9)
