"""Hooks on methods, and the blocks of earlier transformers that route in a method."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from molora.edits import RoutingEdit
from molora.errors import MoloraError
from molora.layers import Routing
from molora.native.hooks import on_method
from molora.native.router import RouterModule
from molora.routers import grid_of


class Adder:
    def add(self, a: int, b: int) -> int:
        return a + b


def test_method_hooks_see_results_change_them_and_come_off_in_any_order() -> None:
    adder, heard = Adder(), []
    watching = on_method(adder, "add", lambda args, result: heard.append((args, result)))
    doubling = on_method(adder, "add", lambda args, result: 2 * result, first=True)
    assert adder.add(1, 2) == 6
    assert heard == [((1, 2), 6)], "the one put first was heard first"
    watching.remove()
    assert adder.add(1, 2) == 6
    doubling.remove()
    assert adder.add(1, 2) == 3
    assert not vars(adder)
    assert len(heard) == 1


class DeepseekV3TopkRouter(nn.Module):
    """As transformers 5.10 had it: logits only."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 4, generator=torch.Generator().manual_seed(0)))
        self.e_score_correction_bias = torch.linspace(-0.2, 0.2, 8)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x.flatten(0, -2), self.weight)


class DeepseekV3MoE(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.top_k = DeepseekV3TopkRouter(), 3

    def route_tokens_to_experts(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        scores = logits.sigmoid()
        ids = (scores + self.gate.e_score_correction_bias).topk(3, dim=-1, sorted=False).indices
        weights = scores.gather(-1, ids)
        return ids, weights / (weights.sum(-1, keepdim=True) + 1e-20) * 2.5

    def forward(self, x: Tensor) -> Tensor:
        ids, weights = self.route_tokens_to_experts(self.gate(x))
        return torch.zeros(len(ids), 8).scatter(-1, ids, weights)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleDict({"mlp": block}) for block in (nn.Linear(4, 4), DeepseekV3MoE()))
        self.config = SimpleNamespace(n_group=1, topk_group=1, routed_scaling_factor=2.5, norm_topk_prob=True)


def test_a_block_that_routes_in_a_method_is_recorded_and_edited() -> None:
    model, x, heard = Model(), torch.randn(1, 5, 4), list[Routing]()
    block: Any = model.get_submodule("layers.1.mlp")
    grid = grid_of(model)
    assert (grid.layer_indices, grid.projections, grid.num_experts, grid.top_k) == ([1], ("mlp",), 8, 3)
    handle = grid.routers[0].register_forward_hook(lambda _router, _args, routing: heard.append(routing))
    usual = block(x)
    logits, ids, weights = heard.pop()
    assert torch.equal(logits, block.gate(x)[None])
    assert torch.equal(torch.zeros(5, 8).scatter(-1, ids[0], weights[0]), usual)
    assert torch.equal(weights, weights.sort(descending=True).values)
    edit = RoutingEdit.reroute([int(ids[0, 0, 0])])
    grid.check(edit)
    grid.routers[0].masks = edit.masks(1, "mlp", 8, torch.device("cpu"))
    edited = block(x)
    assert not edited[:, int(ids[0, 0, 0])].any()
    torch.testing.assert_close(edited.sum(-1), torch.full((5,), 2.5))
    assert torch.equal(heard.pop().expert_ids[0].sort().values, edited.topk(3).indices.sort().values)
    grid.routers[0].masks = None
    handle.remove()
    assert torch.equal(block(x), usual)
    assert "route_tokens_to_experts" not in vars(block)


def test_a_router_of_another_form_is_refused() -> None:
    handle = RouterModule(router := DeepseekV3TopkRouter()).listen(lambda decision: None)
    with pytest.raises(MoloraError, match=r"DeepseekV3TopkRouter does not give \(logits, weights, ids\)"):
        router(torch.randn(2, 4))
    handle.remove()
