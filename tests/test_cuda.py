"""What only a GPU can show: NF4 by default, no full-precision copy, the same routing as on the CPU."""

from __future__ import annotations

from pathlib import Path

import bitsandbytes as bnb
import numpy as np
import pytest
import torch

import molora
from molora.loading import choose_model

pytestmark = pytest.mark.cuda

QUESTION = [{"role": "user", "content": "哮喘有哪些症状？"}]


def test_auto_is_nf4_with_double_quantization_and_bf16_compute(checkpoint: Path) -> None:
    engine = molora.load(str(checkpoint))
    linear = engine.model.model.layers[0].mlp.gate_proj.base_layer
    assert isinstance(linear, bnb.nn.Linear4bit)
    assert linear.weight.quant_state.quant_type == "nf4"
    assert linear.weight.quant_state.nested
    assert linear.compute_dtype == torch.bfloat16
    assert engine.info.quantization == "4bit"
    assert engine.answer(QUESTION, max_new_tokens=4).num_tokens >= 1


def test_routing_equals_that_of_the_cpu(checkpoint: Path) -> None:
    cpu = molora.load(str(checkpoint), device="cpu").trace_text("asthma and diabetes")
    cuda = molora.load(str(checkpoint), device="cuda", quantize="none").trace_text("asthma and diabetes")
    given, expected = (one.router_logits[:, 0, :2] for one in (cuda, cpu))  # of layer 0's gate and up: first to pick
    np.testing.assert_allclose(given, expected, rtol=0.1, atol=0.1)
    turned = (np.sort(cuda.expert_ids[:, 0, :2]) != np.sort(cpu.expert_ids[:, 0, :2])).any(-1)
    best = -np.sort(-expected)  # [T, P, E]
    assert (best[..., 1] - best[..., 2])[turned].max(initial=0) < 0.1, "bf16 may flip a near tie, not more"
    assert (cuda.expert_ids == cpu.expert_ids).mean() > 0.7, "what comes after a flip differs, but most has none"


def test_sampling_is_reproducible_on_the_gpu(checkpoint: Path) -> None:
    engine = molora.load(str(checkpoint))
    one, same = (engine.answer(QUESTION, max_new_tokens=8, temperature=1.0, seed=3).text for _ in range(2))
    assert one == same


def test_auto_says_why() -> None:
    assert "GPU" in choose_model().reason or "GiB" in choose_model().reason
