"""Prompts in bfloat16 by tiles as a whole, which CPUs without AMX take here in their other registers."""

from __future__ import annotations

from typing import Any

import numba
import pytest
import torch
from torch import Tensor

from molora import fast
from molora.edits import RoutingEdit
from molora.fast import compiled, kernel, linears
from molora.fast.compiled import CompiledStep
from molora.fast.plan import Plan
from molora.routers import grid_of
from tests.fast_models import changing_its_way, narrow, packable_model, side_by_side

KINDS: dict[str, Any] = {
    "llama": {},
    "llama-biased": {},
    "qwen2": {},
    "base alone": {"wrapped": False},
    "plain lora": {"experts": 1},
    "some without adapters": {"targets": ("o_proj",)},
}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1}
"""Of 32 numbers each, as a step of tiles takes them"""


@pytest.fixture(autouse=True)
def called(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The types that the pass is called with; it is taken whatever this CPU is, by several threads."""
    seen: list[tuple[Any, ...]] = []
    read_tiled = kernel.read_tiled

    def watched(*args: Any) -> None:
        seen.append((*map(numba.typeof, args), args[-1] == 1))
        read_tiled(*args)

    monkeypatch.setattr(compiled, "TILES", True)
    monkeypatch.setattr(compiled, "read_tiled", watched)
    monkeypatch.setattr(linears, "threads", lambda: 2)
    monkeypatch.setattr(linears, "WORTH", 1)
    return seen


def model_of(kind: str) -> Any:
    model = packable_model(kind.split(" ", maxsplit=1)[0], **KINDS[kind], **HEADS)
    narrow(model)
    fast.allow_packing(model)
    return model


def forced(model: Any) -> Plan:
    """Or rounding would move picks, and one that moves counts for more than all else."""
    grid = grid_of(model)
    return Plan.of(RoutingEdit.force([0, 3]), grid) if grid.num_experts > 1 else Plan()


def read(step: fast.Step, plan: Plan, count: int) -> tuple[Tensor, ...]:
    """Logits and keys of a prompt, of another one behind it and of a token, and what the first layer's routers say of
    the two prompts."""
    cache, logits, routed = fast.growing_cache(len(step.layers)), [], []
    for past in (0, count):
        found, picked = step.many((torch.arange(count) + past) % 300, cache, plan, kept=count)
        logits.append(found)
        routed += [torch.cat([one.logits for one in picked], dim=1)[:, :3]] if picked else []
    logits.append(step(torch.tensor([7]), cache, plan)[0])
    return torch.cat(logits), cache.layers[1].keys, cache.layers[-1].values, torch.cat(routed or logits)


@pytest.mark.parametrize("count", [3, 40, 150])
@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_comes_as_near_to_float32_as_torchs_bfloat16(kind: str, count: int, called: list[Any]) -> None:
    model = model_of(kind)
    exact, plain, given = (
        read(step, forced(model), count)
        for step in (
            fast.Step(model, True),
            fast.Step(model, False, torch.bfloat16),
            CompiledStep(model, True, torch.bfloat16),
        )
    )
    assert len(called) == 2
    for one, other, own in zip(exact, plain, given, strict=True):
        assert own.shape == one.shape
        assert (own - one).abs().mean() <= 2.5 * (other - one).abs().mean() + 1e-6, "but for chance, of few tokens most"


@torch.inference_mode()
def test_what_is_not_four_bit_throughout_keeps_to_torch_and_float32() -> None:
    model, found = model_of("llama"), []
    weight = model.model.layers[1].mlp.down_proj.base_layer.weight
    weight.data[-1, -1] += 0.1  # which the first rows do not tell
    for step in (CompiledStep(model, True, torch.bfloat16), fast.Step(model, True)):
        cache = fast.growing_cache(3)
        step.many(torch.arange(40, 80), cache, Plan())
        found.append((step(torch.tensor([7]), cache, Plan())[0], cache.layers[0].keys))
    for given, expected in zip(*found, strict=True):
        assert given.dtype == torch.float32
        assert (given - expected).abs().mean() < 2e-3 * expected.std()


def test_a_text_may_change_its_way_at_any_token() -> None:
    """Keys and values are kept in float16 from the first pass by tiles on, also those that others have left."""
    model, kept = model_of("qwen2"), []
    for given, expected in changing_its_way(model, CompiledStep(model, True, torch.bfloat16)):
        assert (given - expected).abs().mean() < 2e-2 * expected.std()
        kept.append(given.dtype)
    assert set(kept[:4]) == {torch.float32}
    assert set(kept[4:]) == {torch.float16}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@torch.inference_mode()
def test_one_token_attends_to_what_others_have_left(dtype: torch.dtype) -> None:
    model = model_of("llama")
    step = CompiledStep(model, True, torch.bfloat16)
    query, keys, values = torch.randn(2, 32), *torch.randn(2, 1, 1, 70, 32).to(dtype)
    expected = fast.Step(model, True).attend(query, keys.float(), values.float())
    torch.testing.assert_close(step.attend(query, keys, values), expected)


@torch.inference_mode()
def test_what_routers_say_is_recorded_and_edited(called: list[Any]) -> None:
    model = model_of("qwen2")
    step, cache = CompiledStep(model, True, torch.bfloat16), fast.growing_cache(3)
    tokens, plan = torch.arange(90), Plan.of(RoutingEdit.drop([1], layers=[0]), grid_of(model))
    _, (picked,) = step.many(tokens, cache, plan)
    assert len(called) == 1
    best, ids = picked.logits.topk(2)
    switched_off = ids == 1
    switched_off[:, 3:] = False  # gate, up and down of the first layer alone are edited
    assert switched_off.any()
    assert torch.equal(picked.expert_ids, ids.masked_fill(switched_off, -1))
    torch.testing.assert_close(picked.weights, best.softmax(-1).masked_fill(switched_off, 0), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_a_token_each_of_several_texts_agrees_with_each_alone(called: list[Any]) -> None:
    model = model_of("qwen2")
    step, plan, texts = CompiledStep(model, True, torch.bfloat16), forced(model), [range(40, 52), range(90, 105)]
    caches, together, among = side_by_side(step, plan, texts)
    logits, _ = step.many(torch.tensor([7, 8]), together, plan, torch.arange(2), among)
    assert len(called) == 3
    for row, (token, cache) in enumerate(zip((7, 8), caches, strict=True)):
        expected, _ = step.many(torch.tensor([token]), cache, plan)
        assert (logits[row] - expected[0]).abs().mean() < 5e-2 * expected.std(), "but for what their keys share"


@pytest.mark.parametrize("kind", ["llama", "base alone", "plain lora"])
@torch.inference_mode()
def test_after_warming_up_nothing_is_left_to_compile(kind: str, called: list[Any]) -> None:
    model = model_of(kind)
    step = CompiledStep(model, True, torch.bfloat16)
    step.warm_up()
    known = set(called)
    called.clear()
    for edit in (None, RoutingEdit.base()):
        read(step, Plan.of(edit, grid_of(model)), 150)
    assert set(called) <= known
    assert called


@torch.inference_mode()
def test_heads_that_are_not_of_whole_steps_keep_to_torch(called: list[Any]) -> None:
    model = packable_model()
    fast.allow_packing(model)
    read(CompiledStep(model, True, torch.bfloat16), Plan(), 40)
    assert not called
