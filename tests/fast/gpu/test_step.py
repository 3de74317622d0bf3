"""The fused step against the one in torch's own functions: logits, routing, keys and edits."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from molora import fast
from molora.edits import RoutingEdit
from molora.fast.gpu import fused_step
from molora.fast.gpu.step import FusedStep
from molora.fast.graph import GraphedStep
from molora.fast.plan import Plan
from molora.routers import grid_of
from tests.fast.test_graph import Recorder
from tests.fast.test_lean_step import EDITS
from tests.fast_models import make_model

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@torch.inference_mode()
def read(step: Any, plan: Plan, layers: int) -> tuple[Tensor, ...]:
    """A prompt and two tokens: logits, keys and values, and what the routers decided, side by side."""
    cache, found = fast.growing_cache(layers), []
    for ids in ((40, 41, 42, 43), (7,), (250,)):
        tokens = torch.tensor(ids, device=DEVICE)
        logits, picked = step(tokens, cache, plan) if len(ids) == 1 else step.many(tokens, cache, plan)
        routed = [torch.cat([part.float() for part in parts], dim=-2) for parts in zip(*picked, strict=True)]
        found.append((logits, *(part.clone().view(len(ids), -1, part.shape[-1]) for part in routed)))
    kept = torch.stack([torch.stack([layer.keys, layer.values]) for layer in cache.layers])
    return (*map(torch.cat, zip(*found, strict=True)), kept)


def assert_agree(model: Any, edit: RoutingEdit | None = None, make: Callable[[Any], Any] = FusedStep) -> None:
    model = model.to(DEVICE)
    plan, layers = Plan.of(edit, grid_of(model)), model.config.num_hidden_layers
    given, expected = read(make(model), plan, layers), read(fast.Step(model, False), plan, layers)
    for one, other in zip(given, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


KINDS: dict[str, Any] = {
    "llama-biased": {},
    "qwen2": {},
    "one key head": {"num_key_value_heads": 1},
    "base alone": {"wrapped": False},
    "plain lora": {"experts": 1},
    "some without adapters": {"targets": ("o_proj",)},
    "experts that are no power of two": {"experts": 5},
    "widths that are no power of two": {"hidden_size": 72, "intermediate_size": 88, "head_dim": 18},
}


@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_torch(kind: str) -> None:
    sizes = {"num_hidden_layers": 2} | KINDS[kind]
    assert_agree(make_model(kind if kind in ("llama-biased", "qwen2") else "llama", **sizes))


@pytest.mark.parametrize("name", EDITS)
def test_edits_agree_with_torch(name: str) -> None:
    assert_agree(make_model("qwen2", num_hidden_layers=2), EDITS[name])


def test_an_expert_switched_off_adds_nothing_even_where_it_overflows() -> None:
    model = make_model("qwen2", num_hidden_layers=1)
    with torch.no_grad():
        model.model.layers[0].mlp.gate_proj.lora_A[1] *= 1e38
    logits, *_ = read(FusedStep(model.to(DEVICE)), Plan.of(RoutingEdit.drop([1]), grid_of(model)), 1)
    assert logits.isfinite().all()


def test_can_be_recorded() -> None:
    """The shapes stay as the text grows, or several texts do."""
    model = make_model(num_hidden_layers=1).to(DEVICE)
    assert_agree(model, make=lambda model: GraphedStep(FusedStep(model), Recorder()))
    given, expected = (
        go_on_side_by_side(step) for step in (GraphedStep(FusedStep(model), Recorder()), fast.Step(model, False))
    )
    torch.testing.assert_close(given, expected, rtol=1e-3, atol=1e-3)


@torch.inference_mode()
def go_on_side_by_side(step: Any) -> Tensor:
    """Two texts, of which the first ends a token earlier; logits."""
    cache, plan, logits = fast.growing_cache(1), Plan(), []
    owners, positions = torch.tensor([[0, 0, 1, 0, 1, 0, 1, 1], [0, 1, 0, 2, 1, 3, 2, 3]], device=DEVICE)
    for begin, end in ((0, 3), (3, 5), (5, 7), (7, 8)):
        among = fast.Among.last(end - begin, owners[:end], positions[:end])
        kept = torch.arange(end - begin, device=DEVICE)
        logits.append(step.many(40 + torch.arange(begin, end, device=DEVICE), cache, plan, kept, among)[0])
    return torch.cat(logits)


def test_reads_more_of_the_weights_than_torch_does_and_says_so() -> None:
    model = make_model("qwen2", num_hidden_layers=1).to(DEVICE)
    mlp = model.model.layers[0].mlp
    unpicked = sum(one.lora_A.nbytes for one in (mlp.gate_proj, mlp.up_proj, mlp.down_proj)) // 2  # 2 of 4 experts
    assert FusedStep(model).nbytes == fast.Step(model, False).nbytes + unpicked


def test_without_triton_torch_reads_and_the_reason_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_norm: nn.Module, _x: Tensor) -> Tensor:
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC")

    monkeypatch.setattr("molora.fast.gpu.fused.normed", fails)
    monkeypatch.setattr(torch.cuda, "device", lambda _device: torch.inference_mode())
    with caplog.at_level(logging.WARNING):
        assert fused_step(make_model(num_hidden_layers=1)) is None
    assert [one.message for one in caplog.records] == [
        "Tokens are read without Triton's kernels, about half as fast: Failed to find C compiler."
    ]
