"""Which models take the lean pass; all others keep to their modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from torch import nn

import molora
from molora import fast
from molora.training.baselines import EvenRouter
from tests.fast_models import make_model


def with_even_router(model: Any) -> None:
    linear = model.model.layers[1].mlp.up_proj
    linear.router = EvenRouter(linear.router)


def with_one_packed_linear(model: Any) -> None:
    linear = model.model.layers[1].mlp.up_proj
    linear.base_layer = bnb.nn.Linear8bitLt(64, 96, bias=False, has_fp16_weights=False)


def with_hook(model: Any) -> None:
    model.model.layers[0].register_forward_hook(lambda *_: None)


def with_hook_on_a_router(model: Any) -> None:
    model.model.layers[0].mlp.up_proj.router.register_forward_hook(lambda *_: None)


def with_own_forward(model: Any) -> None:
    model.model.layers[0].mlp.forward = model.model.layers[0].mlp.forward


def with_other_experts_on_one(model: Any) -> None:
    model.model.layers[0].mlp.up_proj.router.top_k = 1


def with_one_that_draws(model: Any) -> None:
    model.model.layers[0].mlp.down_proj.router.selection = "sampling"


def with_adapters_of_another_dtype(model: Any) -> None:
    linear = model.model.layers[1].mlp.up_proj
    linear.base_layer.bfloat16()


@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral"])
def test_decoders_with_full_attention_fit(kind: str) -> None:
    assert fast.fits(make_model(kind))
    assert fast.fits(make_model(kind, wrapped=False))


@pytest.mark.parametrize(
    "change",
    [
        with_even_router,
        with_one_packed_linear,
        with_hook,
        with_hook_on_a_router,
        with_own_forward,
        with_other_experts_on_one,
        with_one_that_draws,
        with_adapters_of_another_dtype,
        nn.Module.train,
    ],
)
def test_what_the_step_would_miss_does_not_fit(change: Any) -> None:
    model = make_model()
    assert fast.fits(model)  # what was told once must not be told again
    change(model)
    assert not fast.fits(model)
    assert not fast.fits(model)


def test_other_models_do_not_fit() -> None:
    assert not fast.fits(nn.Linear(2, 2))
    assert not fast.fits(make_model("mistral", sliding_window=8))
    assert not fast.fits(make_model(selection="sampling"))
    assert not fast.fits(make_model(targets=("q_proj", "v_proj")))
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    assert not fast.fits(make_model(rope_parameters=rope))


def test_only_auto_allows_packing(checkpoint: Path) -> None:
    assert fast.may_pack(molora.load(str(checkpoint)).model)
    assert not fast.may_pack(molora.load(str(checkpoint), quantize="none").model)


def test_copies_are_shared_until_a_weight_changes() -> None:
    model = make_model()
    step = fast.step_of(model)
    assert fast.step_of(model) is step
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.lora_A.add_(1)
    assert fast.step_of(model) is not step
