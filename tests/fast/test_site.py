"""Linears that share their input against what each of them computes alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from molora.fast.adapter import Experts
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
    site, x = Site(linears, True, dtype, Experts, apart=True), inputs(9)
    few, many = (torch.cat(site.many(x[:count], None, True, []), dim=-1) for count in (8, 9))
    assert torch.equal(few, torch.cat([site.base.multiply(one[None]) for one in x[:8]]).to(dtype))
    assert torch.equal(many, torch.cat([F.linear(x.to(dtype), one.weight.to(dtype)) for one in linears], dim=-1))


@pytest.mark.parametrize("tokens", [1, 8, 9, 40])
@pytest.mark.parametrize("lora", [True, False])
@torch.inference_mode()
def test_plain_lora_is_added_or_merged_or_left_out(tokens: int, lora: bool) -> None:
    model = packable_model("qwen2")
    site, x = Site(qkv(model), True, FLOAT, Experts), inputs(tokens)
    found = torch.cat(site.many(x, None, lora, []), dim=-1)
    for linear in qkv(model):
        linear.active = lora
    expected = torch.cat([linear(x[None])[0] for linear in qkv(model)], dim=-1)
    digit = 2**-8 if tokens <= 8 else 1e-5  # of bfloat16, in which a few are read
    assert (found - expected).abs().max() < digit * expected.abs().max()


@pytest.mark.parametrize("wrapped", [True, False])
@torch.inference_mode()
def test_gated_is_silu_of_the_first_times_the_second(wrapped: bool) -> None:
    linears = gate_up(make_model(wrapped=wrapped))
    x, seen = inputs(9), list[Any]()
    found = Site(linears, False, FLOAT, Experts, apart=True).gated(x, None, True, seen)
    gate, up = (linear(x[None])[0] for linear in linears)
    torch.testing.assert_close(found, F.silu(gate) * up)
    assert len(seen) == wrapped
