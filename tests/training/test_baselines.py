from __future__ import annotations

import pytest
import torch
from torch import nn

from molora.config import LoraConfig
from molora.layers import MoloraLinear, Router
from molora.training.baselines import EvenRouter, TaskRouter, tell_tasks, told, weigh_evenly


class Layers(nn.Module):
    """One wrapped linear under the name that a decoder gives it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = MoloraLinear(nn.Linear(6, 5), 4, 2, LoraConfig(r=3))
        self.layers = nn.ModuleList([nn.ModuleDict({"gate_proj": self.linear})])
        del self.linear  # one name is enough: a decoder knows its linears by their layer
        nn.init.normal_(linear_of(self).lora_B)


def linear_of(model: Layers) -> MoloraLinear:
    linear = model.get_submodule("layers.0.gate_proj")
    assert isinstance(linear, MoloraLinear)
    return linear


def test_even_weights_are_the_mean_of_all_experts() -> None:
    model, x = Layers(), torch.randn(2, 3, 6)
    linear = linear_of(model)
    a, b = linear.lora_A.reshape(4, 3, 6), linear.lora_B.split(3, dim=1)
    mean = torch.stack([linear.scaling * x @ a[e].T @ b[e].T for e in range(4)]).mean(0)
    weigh_evenly(model)
    assert isinstance(linear.router, EvenRouter)
    torch.testing.assert_close(linear(x), linear.base_layer(x) + mean)


def test_a_router_that_is_told_the_task_gives_a_task_the_same_experts_whatever_it_reads() -> None:
    model, x = Layers(), torch.randn(3, 7, 6)
    tell_tasks(model, 5)
    linear = linear_of(model)
    router = linear.router
    assert isinstance(router, TaskRouter)
    assert router.weight.shape == (4, 5)
    with told(model, torch.tensor([1, 4, 1])):
        routing, y = router(x), linear(x)
    assert routing.logits.shape == (3, 7, 4)
    assert torch.equal(routing.logits[0], routing.logits[2])
    assert (routing.logits == routing.logits[:, :1]).all()
    assert not torch.equal(routing.logits[0], routing.logits[1])
    with told(model, torch.tensor([4])):
        torch.testing.assert_close(linear(x)[1], y[1])
    with pytest.raises(RuntimeError, match="inside `told`"):
        router(x)


def test_routers_that_read_tokens_take_no_notice() -> None:
    model, x = Layers(), torch.randn(2, 3, 6)
    with told(model, torch.tensor([0, 1])):
        inside = linear_of(model)(x)
    assert torch.equal(inside, linear_of(model)(x))
    assert type(linear_of(model).router) is Router
