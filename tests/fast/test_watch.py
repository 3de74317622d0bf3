"""Whether a model is as it was: each kind of change is seen, and nothing else is."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import nn

from molora.fast.watch import Watch
from tests.fast_models import make_model


def writing_in_place(model: Any) -> None:
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.router.weight.add_(1)


def moving_a_weight(model: Any) -> None:
    weight = model.model.layers[0].self_attn.q_proj.lora_B
    weight.data = weight.data.clone()


def replacing_a_weight(model: Any) -> None:
    model.model.norm.weight = nn.Parameter(model.model.norm.weight.detach())


def adding_a_weight(model: Any) -> None:
    model.model.layers[0].mlp.gate_proj.base_layer.bias = nn.Parameter(torch.zeros(96))


def replacing_a_module(model: Any) -> None:
    model.model.layers[1].mlp = model.model.layers[0].mlp


def adding_a_module(model: Any) -> None:
    model.model.layers[0].mlp.more = nn.Identity()


def taking_a_module_away(model: Any) -> None:
    del model.model.layers[1]


def changing_a_kind(model: Any) -> None:
    model.model.layers[0].mlp.act_fn.__class__ = nn.Tanh


def picking_other_experts(model: Any) -> None:
    model.model.layers[0].mlp.up_proj.router.top_k = 1


def drawing_experts(model: Any) -> None:
    model.model.layers[0].mlp.up_proj.router.selection = "sampling"


@pytest.mark.parametrize(
    "change",
    [
        writing_in_place,
        moving_a_weight,
        replacing_a_weight,
        adding_a_weight,
        replacing_a_module,
        adding_a_module,
        taking_a_module_away,
        changing_a_kind,
        picking_other_experts,
        drawing_experts,
    ],
)
def test_changes_are_seen(change: Any) -> None:
    model = make_model()
    watch = Watch(model)
    assert watch.unchanged()
    change(model)
    assert not watch.unchanged()
    assert Watch(model).unchanged()


def test_weights_of_inference_mode_are_watched_too() -> None:
    with torch.inference_mode():
        model = nn.Sequential(nn.Linear(2, 2))
    watch = Watch(model)
    assert watch.unchanged()
    model[0].weight = nn.Parameter(torch.ones(2, 2))
    assert not watch.unchanged()


@pytest.mark.parametrize("hook", ["register_forward_hook", "register_forward_pre_hook"])
def test_hooks_are_seen_while_they_are_on_but_change_nothing(hook: str) -> None:
    model = make_model()
    watch = Watch(model)
    for module in (model, model.model.layers[1].mlp, model.lm_head, model.model.layers[0].mlp.up_proj.router):
        assert not watch.hooked(model)
        handle = getattr(module, hook)(lambda *_: None)
        assert watch.hooked(model)
        handle.remove()
    assert not watch.hooked(model)
    assert watch.unchanged()


def test_a_forward_of_its_own_is_seen_on_any_module_and_on_the_model() -> None:
    model = make_model()
    watch = Watch(model)
    for module in (model, model.model.layers[1].mlp):
        module.forward = module.forward
        assert watch.hooked(model)
        del module.forward
        assert not watch.hooked(model)


def test_a_watch_does_not_keep_its_model() -> None:
    model = make_model()
    watch, gone = Watch(model), weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    assert watch.unchanged()
