"""Linears that share their input against what each of them computes alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from molora.fast.adapter import Experts
from molora.fast.levels import Levels
from molora.fast.site import Site
from tests.fast_models import make_model, packable_model

FLOAT, HALF = torch.float32, torch.bfloat16


def qkv(model: Any) -> list[Any]:
    attention = model.model.layers[0].self_attn
    return [attention.q_proj, attention.k_proj, attention.v_proj]


def gate_up(model: Any) -> list[Any]:
    mlp = model.model.layers[0].mlp
    return [mlp.gate_proj, mlp.up_proj]


def inputs(tokens: int) -> Tensor:
    return torch.randn(tokens, 64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("dtype", [FLOAT, HALF])
@torch.inference_mode()
def test_a_few_tokens_are_read_in_4_bits_as_one_is_and_more_in_the_dtype_of_prompts(dtype: torch.dtype) -> None:
    linears = gate_up(packable_model(wrapped=False))
    most = Levels.few
    site, x = Site(linears, True, dtype, Experts, apart=True), inputs(most + 1)
    few, many = (torch.cat(site.many(x[:count], None, True, []), dim=-1) for count in (most, most + 1))
    alone = torch.cat([site.base.multiply(one[None]) for one in x[:most]]).to(dtype)
    last_digit = {FLOAT: 1e-5, HALF: 2**-7}[dtype]  # one thread's code and several threads' are compiled apart
    torch.testing.assert_close(few, alone, rtol=last_digit, atol=1e-5)
    assert not torch.allclose(many[:most], alone, rtol=last_digit, atol=1e-5)
    assert torch.equal(many, torch.cat([F.linear(x.to(dtype), one.weight.to(dtype)) for one in linears], dim=-1))


@pytest.mark.parametrize("dtype", [FLOAT, HALF])
@pytest.mark.parametrize("tokens", [1, 8, 33, 40])
@pytest.mark.parametrize("lora", [True, False])
@torch.inference_mode()
def test_plain_lora_is_added_or_merged_or_left_out(tokens: int, lora: bool, dtype: torch.dtype) -> None:
    model = packable_model("qwen2")
    site, x = Site(qkv(model), True, dtype, Experts), inputs(tokens)
    found = [torch.cat(site.many(given, None, lora, []), dim=-1) for given in (x, x.to(dtype))]  # as attention gives it
    for linear in qkv(model):
        linear.active = lora
    expected = torch.cat([linear(x[None])[0] for linear in qkv(model)], dim=-1)
    for each in found:
        assert each.dtype == dtype
        if dtype == FLOAT and tokens > Levels.few:
            torch.testing.assert_close(each, expected, rtol=1e-5, atol=1e-5)
        else:  # of bfloat16's rounding, once for what is read and once for what is given, the most that is summed
            assert (each - expected).abs().max() < 2 * 2**-8 * expected.abs().max()
            assert (each - expected).abs().mean() < 2**-8 * expected.abs().mean()


@pytest.mark.parametrize("wrapped", [True, False])
@torch.inference_mode()
def test_gated_is_silu_of_the_first_times_the_second(wrapped: bool) -> None:
    linears = gate_up(make_model(wrapped=wrapped))
    x, seen = inputs(9), list[Any]()
    found = Site(linears, False, FLOAT, Experts, apart=True).gated(x, None, True, seen)
    gate, up = (linear(x[None])[0] for linear in linears)
    torch.testing.assert_close(found, F.silu(gate) * up)
    assert len(seen) == wrapped
