"""The compiled step as a whole against the one in torch's own functions."""

from __future__ import annotations

from typing import Any

import numba
import pytest
import torch
from torch import Tensor

from molora import fast
from molora.edits import RoutingEdit
from molora.fast import compiled, linears
from molora.fast.compiled import CompiledStep
from molora.fast.plan import Plan
from molora.routers import grid_of
from tests.fast_models import LLAMA3_ROPE, as_cpu, changing_its_way, make_model, narrow, packable_model, side_by_side


def step_of(model: Any) -> CompiledStep:
    fast.allow_packing(model)
    step = fast.step_of(model)
    assert isinstance(step, CompiledStep)
    return step


@torch.inference_mode()
def read(step: fast.Step, plan: Plan, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens one by one after a prompt: all logits [1 + tokens, V], keys of the last layer, and router logits."""
    cache = fast.growing_cache(len(step.layers))
    logits, routed = [step.many(torch.arange(40, 49), cache, plan)[0]], [torch.empty(0, 1)]
    for token in range(tokens):
        scores, picked = step(torch.tensor([token % 300]), cache, plan)
        logits.append(scores)
        routed += [part.logits for part in picked]
    return torch.cat(logits), cache.layers[-1].keys, torch.cat(routed[1:] or routed)


KINDS: dict[str, Any] = {
    "llama": {},
    "llama-biased": {},
    "qwen2": {},
    "qwen2-tied": {},
    "mistral": {},
    "base alone": {"wrapped": False},
    "plain lora": {"experts": 1},
    "some without adapters": {"targets": ("o_proj",)},
    "one key head": {"num_key_value_heads": 1},
    "long contexts": {"rope_parameters": LLAMA3_ROPE},
    "heads of whole registers": {"num_attention_heads": 2, "num_key_value_heads": 1},
}


def assert_agree(model: Any, plan: Plan, tokens: int = 6) -> None:
    """But for bfloat16's rounding of what single tokens read, which starts from sums that differ in float32's last
    digit."""
    assert isinstance(step_of(model), CompiledStep)
    step, plain = CompiledStep(model, True), fast.Step(model, True)
    for given, expected in zip(read(step, plan, tokens), read(plain, plan, tokens), strict=True):
        assert given.shape == expected.shape
        if expected.numel():
            assert (given - expected).abs().mean() < 2e-3 * expected.std()


@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_torch_as_a_whole(kind: str) -> None:
    assert_agree(packable_model(kind.split(" ", maxsplit=1)[0], **KINDS[kind]), Plan())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "base alone"])
def test_adapters_in_whole_numbers_agree_with_torch(kind: str) -> None:
    model = packable_model(kind.split(" ", maxsplit=1)[0], **KINDS[kind])
    for name, weight in model.named_parameters():
        if "lora" in name:
            weight.data = (weight.data / 5).bfloat16().float()  # not stronger than the base any more
    assert_agree(model, Plan())
    layers = step_of(model)._compiled
    assert layers is not None
    _, qkv, out, _, gate_up, down = layers.arrays.tuples[0]
    adapters = [linears[-1] for linears in (qkv, out, gate_up, down)]
    assert sum(len(a) for _, _, a, *_ in adapters)
    assert all(len(words) == len(a) for _, _, a, words, _, _ in adapters)


EDITS = {
    "drop": RoutingEdit.drop([1, 2], layers=[0, 2]),
    "uniform": RoutingEdit.uniform(layers=[2]),
    "force": RoutingEdit.force([3], layers=[1], projections=["up_proj"]),
    "base": RoutingEdit.base(),
}


@pytest.mark.parametrize("name", EDITS)
def test_edits_agree_with_torch(name: str) -> None:
    model = packable_model("qwen2")
    assert_agree(model, Plan.of(EDITS[name], grid_of(model)))


@pytest.mark.parametrize("kind", ["llama", "qwen2", "base alone", "plain lora"])
@torch.inference_mode()
def test_a_prompt_in_bfloat16_comes_as_near_to_float32_as_in_torch(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After one layer, with forced picks: rounding moves others, and one that moves counts for more than all else."""
    as_cpu(monkeypatch, "AVX512")
    model = packable_model(kind.split(" ", maxsplit=1)[0], **KINDS[kind])
    step_of(model)
    grid = grid_of(model)
    plan = Plan.of(RoutingEdit.force([0, 3]), grid) if grid.num_experts > 1 else Plan()
    found = []
    for step in (
        fast.Step(model, True),
        fast.Step(model, True, torch.bfloat16),
        CompiledStep(model, True, torch.bfloat16),
    ):
        cache = fast.growing_cache(len(step.layers))
        step.many(torch.arange(40, 240), cache, plan)
        found.append(cache.layers[1].keys)
    exact, plain, given = found
    assert (given - exact).abs().mean() <= (plain - exact).abs().mean()


@torch.inference_mode()
def test_positions_are_told_apart_far_into_a_text_and_in_the_next_one() -> None:
    model = packable_model(rope_parameters=LLAMA3_ROPE)
    step, plain = step_of(model), fast.Step(model, True)
    for length in (252, 20, 510):
        keys = []
        for one in (step, plain):
            cache = fast.growing_cache(len(one.layers))
            one.many(torch.arange(length) % 300, cache, Plan())
            for token in range(8):
                one(torch.tensor([token]), cache, Plan())
            keys.append(cache.layers[0].keys[:, :, length:])
        given, expected = keys
        assert (given - expected).abs().max() < 1e-2 * expected.std()
        assert (given - expected.roll(1, dims=2)).abs().max() > expected.std()


COMPILED = [(compiled, name) for name in ("all_turned", "attended", "read_many", "read_one")]
COMPILED += [(linears, name) for name in ("all_adapted", "all_normed", "mixed")]


def test_passes_made_while_it_warms_up_take_torchs_way_and_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    model = packable_model()
    step, plan, busy = CompiledStep(model, True), Plan(), False
    found: list[Tensor] = []

    def watched(function: Any) -> Any:
        def call(*args: Any) -> None:
            nonlocal busy
            assert not busy, "waits for what is being compiled"
            if not found:
                busy = True
                found.extend(read(step, plan, 3))
                busy = False
            function(*args)

        return call

    for module, name in COMPILED:
        monkeypatch.setattr(module, name, watched(getattr(module, name)))
    step.warm_up()
    for given, expected in zip(found, read(fast.Step(model, True), plan, 3), strict=True):
        assert torch.equal(given, expected)
    after = read(step, plan, 3)
    assert not any(torch.equal(given, other) for given, other in zip(after, found, strict=True)), "compiled from now on"


@pytest.mark.parametrize("kind", ["llama", "base alone", "plain lora", "heads of whole registers"])
def test_after_warming_up_nothing_is_left_to_compile(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, kinds = packable_model(**KINDS[kind]), set()

    def watched(name: str, function: Any) -> Any:
        def call(*args: Any) -> None:
            kinds.add((name, *map(numba.typeof, args), args[-1] == 1))
            function(*args)

        return call

    for module, name in COMPILED:
        monkeypatch.setattr(module, name, watched(name, getattr(module, name)))
    step = CompiledStep(model, True)
    step.warm_up()
    known = kinds.copy()
    kinds.clear()
    for edit in (None, RoutingEdit.base()):
        plan = Plan.of(edit, grid_of(model))
        read(step, plan, 300)
        with torch.inference_mode():
            cache = fast.growing_cache(len(step.layers))
            step.many(torch.arange(40, 240), cache, plan)
            for count in (2, 1):  # texts that lie side by side, and the last of them
                places = torch.arange(cache.get_seq_length() + count)
                among = fast.Among.last(count, places % 2, places // 2)
                step.many(torch.arange(count), cache, plan, torch.arange(count), among)
    assert kinds == known


def test_the_base_of_plain_lora_agrees_with_torch() -> None:
    model = packable_model(experts=1)
    assert_agree(model, Plan.of(RoutingEdit.base(), grid_of(model)))


def test_adapters_may_be_narrow_in_some_layers_alone() -> None:
    model = packable_model()
    narrow(model.model.layers[1])
    assert_agree(model, Plan())


@pytest.mark.parametrize("edit", [RoutingEdit.force([0, 3]), RoutingEdit.base()])  # or rounding would move picks
@pytest.mark.parametrize("count", [3, 40, 300])  # from 256 on each thread keeps to its own
@torch.inference_mode()
def test_several_threads_agree_with_torch(count: int, edit: RoutingEdit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linears, "threads", lambda: 2)
    monkeypatch.setattr(linears, "WORTH", 1)
    model = packable_model(num_attention_heads=2, num_key_value_heads=1)
    narrow(model)
    step_of(model)
    found, plan = [], Plan.of(edit, grid_of(model))
    for step in (CompiledStep(model, True), fast.Step(model, True)):
        cache, seen = fast.growing_cache(len(step.layers)), list[Tensor]()
        for past in (0, count):  # the second time there are others before
            logits, picked = step.many((torch.arange(count) + past) % 300, cache, plan)
            seen += [logits, torch.cat([one.logits for one in picked], dim=1)]
        seen += [step(torch.tensor([token]), cache, plan)[0] for token in (7, 8)]
        read_alone = step if isinstance(step, CompiledStep) else step.many
        seen.append(read_alone(torch.tensor([9]), fast.growing_cache(len(step.layers)), plan)[0])
        found.append([*seen, cache.layers[-1].keys, cache.layers[-1].values])
    for given, expected in zip(*found, strict=True):
        assert given.shape == expected.shape
        assert (given - expected).abs().mean() < 2e-3 * expected.std()


def test_agrees_beyond_the_first_room_of_the_cache() -> None:
    assert_agree(packable_model(), Plan(), tokens=300)


@pytest.mark.parametrize(
    ("dtype", "digit", "edit"),
    [
        *((torch.float32, 5e-3, edit) for edit in (None, *EDITS.values())),
        (torch.bfloat16, 2e-2, RoutingEdit.force([0, 3])),  # which rounds more, and would move picks
    ],
)
@torch.inference_mode()
def test_a_token_each_of_several_texts_agrees_with_each_alone(
    dtype: torch.dtype, digit: float, edit: RoutingEdit | None
) -> None:
    model = packable_model("qwen2")
    step_of(model)
    step, plan, texts = CompiledStep(model, True, dtype), Plan.of(edit, grid_of(model)), [range(40, 52), range(90, 105)]
    caches, together, among = side_by_side(step, plan, texts)
    logits, (picked,) = step.many(torch.tensor([7, 8]), together, plan, torch.arange(2), among)
    for row, (token, cache) in enumerate(zip((7, 8), caches, strict=True)):
        expected, (alone,) = step(torch.tensor([token]), cache, plan)
        assert (logits[row] - expected[0]).abs().mean() < digit * expected.std()
        assert (picked.logits[row] - alone.logits).abs().mean() < digit * alone.logits.std()


def test_a_text_may_change_its_way_at_any_token() -> None:
    model = packable_model("qwen2")
    step_of(model)
    for given, expected in changing_its_way(model, CompiledStep(model, True)):
        assert given.dtype == torch.float32
        assert (given - expected).abs().mean() < 1e-3 * expected.std()


def test_what_is_not_four_bit_throughout_keeps_to_torch() -> None:
    plain = make_model()
    fast.allow_packing(plain)
    assert type(fast.step_of(plain)) is fast.Step

    model = packable_model()
    weight = model.model.layers[1].mlp.down_proj.base_layer.weight
    weight.data[-1, -1] += 0.1  # which the first rows do not tell
    plain, caches = fast.Step(model, True, fast.prompt_dtype(model)), [fast.growing_cache(3) for _ in range(2)]
    for cache in caches:
        plain.many(torch.arange(40, 49), cache, Plan())
    given, expected = (
        [step(torch.tensor([token]), cache, Plan())[0] for token in (7, 8)]
        for step, cache in zip((step_of(model), plain), caches, strict=True)
    )
    assert torch.equal(torch.cat(given), torch.cat(expected))


def test_heads_that_are_not_of_whole_registers_keep_to_torch() -> None:
    model = packable_model(head_dim=24)
    assert_agree(model, Plan())
    assert step_of(model)._compiled is None
