"""The compiled step against the one in torch's own functions, piece by piece and as a whole."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from molora import fast
from molora.config import LoraConfig
from molora.edits import Masks, RoutingEdit
from molora.fast import compiled, kernel
from molora.fast.adapter import Experts, Picked, PlainLora
from molora.fast.compiled import CompiledExperts, CompiledStep, _Picks
from molora.fast.plan import Plan
from molora.layers import MoloraLinear
from molora.routers import grid_of
from tests.fast_models import LLAMA3_ROPE, make_model, packable_model

I, O, E = 48, 80, 5  # O: a tile, and less than one


def assert_equal(given: Any, expected: Any) -> None:
    """But for float32's rounding."""
    torch.testing.assert_close(torch.as_tensor(given), torch.as_tensor(expected), rtol=1e-5, atol=1e-5)


def linears(count: int, rank: int, top_k: int = 2, experts: int = E, *, coarse: bool = False) -> list[MoloraLinear]:
    """`coarse`: with weights that bfloat16 holds, which are read as such."""
    torch.manual_seed(0)
    made = []
    for _ in range(count):
        linear = MoloraLinear(nn.Linear(I, O), experts, top_k, LoraConfig(rank, 2.0 * rank))
        nn.init.normal_(linear.lora_B)
        if linear.router is not None:
            nn.init.normal_(linear.router.bias)
        if coarse:
            for weight in (linear.lora_A, linear.lora_B):
                weight.data = weight.data.bfloat16().float()
        made.append(linear.eval())
    return made


def some_masks(count: int) -> Masks:
    """The first router never picks expert 0, always 1, whose part is skipped, and gives 2 no weight; all that the last
    one picks weigh alike."""
    offset, kept, shift = torch.zeros(count, E), torch.ones(count, E, dtype=torch.bool), torch.zeros(count, E)
    offset[0, :2] = torch.tensor([-torch.inf, torch.inf])
    kept[0, 1] = False
    shift[0, 2] = -torch.inf
    return Masks(offset, kept, shift, torch.tensor([[1.0]] * (count - 1) + [[0.0]]))


def adapted(
    x: Tensor, base: Tensor, y: Tensor, *, onto: bool, experts: Any = None, lora: Any = None, **edit: Any
) -> Any:
    """What the compiled function makes of it: y, and the routers' rows [P, E+2K]."""
    p, e, k = experts.sizes if experts else (0, 0, 0)
    nothing = (
        np.empty((0, 0, 0), np.uint16),
        np.empty((0, 0), np.float32),
        *[np.empty((0, 0, 0, 0), np.uint16)] * 2,
        1.0,
    )
    none = np.empty((0, I), np.uint16), np.empty((0, y.shape[1]), np.uint16), np.zeros(1, np.int64)
    given = lora.arrays if lora else none
    masks = edit.get("masks") or Masks(torch.zeros(p, e), torch.ones(p, e, dtype=torch.bool), torch.zeros(p, e))
    (array, _) = Plan({0: (masks, masks)}).arrays[0]
    bias = np.arange(y.shape[1], dtype=np.float32)
    rows = np.empty((p, e + 2 * k), np.float32)
    arrays = experts.arrays if experts else nothing
    kernel.adapted(x.data_ptr(), base.data_ptr(), y.data_ptr(), onto, bias, given, arrays, array, rows)
    return y, rows


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("edited", [False, True])
@pytest.mark.parametrize(("count", "rank", "top_k"), [(2, 8, 2), (1, 6, 1), (3, 1, 5)])
@torch.inference_mode()
def test_experts_agree_with_torch(count: int, rank: int, top_k: int, edited: bool, coarse: bool) -> None:
    experts = Experts(linears(count, rank, top_k, coarse=coarse))
    masks = some_masks(count) if edited else None
    x, base, y = torch.randn(1, I), torch.randn(1, count * O).bfloat16(), torch.randn(1, count * O)
    expected, picked = experts.add(x, y + base + torch.arange(count * O), masks)
    given, rows = adapted(x, base, y, onto=True, experts=experts, masks=masks)
    assert_equal(given, expected)
    logits, ids, weights = np.split(rows, [E, E + top_k], axis=1)
    assert_equal(logits, picked.logits)
    assert_equal(weights, picked.weights)
    assert ids.tolist() == picked.expert_ids.tolist()


def assert_rounded_once(given: Tensor, expected: Tensor) -> None:
    """To float32's rounding, and where it is bfloat16 to the last of its bits."""
    digit = 1e-5 if given.dtype == torch.float32 else 2**-8
    torch.testing.assert_close(given.float(), expected, rtol=digit, atol=1e-5)


def seen_by(experts: Experts, x: Tensor, parts: list[Tensor], masks: Masks | None = None) -> Picked:
    """What they say they picked, having added to the parts."""
    seen: Any = _Picks([experts.sizes], len(x)) if isinstance(experts, CompiledExperts) else []
    experts.add_many(x, parts, masks, seen)
    (picked,) = seen if isinstance(seen, list) else seen.all()
    return picked


FLOAT, HALF = torch.float32, torch.bfloat16


@pytest.mark.parametrize(
    ("x_dtype", "dtype", "coarse", "parts"),
    [(FLOAT, FLOAT, False, 1), (FLOAT, FLOAT, True, 3), (FLOAT, HALF, True, 3), (HALF, HALF, True, 1)],
)  # each kind is compiled, which takes seconds
@pytest.mark.parametrize("edited", [False, True])
@pytest.mark.parametrize(("count", "rank", "top_k"), [(2, 8, 2), (1, 6, 1), (3, 1, 5)])
@torch.inference_mode()
def test_experts_of_many_tokens_agree_with_torch(
    count: int,
    rank: int,
    top_k: int,
    edited: bool,
    x_dtype: torch.dtype,
    dtype: torch.dtype,
    coarse: bool,
    parts: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiled, "threads", lambda: parts)
    made = linears(count, rank, top_k, coarse=coarse)
    if edited:
        made[0].lora_A.data[rank : 2 * rank] = torch.inf  # those of an expert that the edit switches off
    masks = some_masks(count) if edited else None
    x = torch.randn(101, I).to(x_dtype)
    given = [torch.randn(101, O).to(dtype) for _ in range(count)]
    expected = [one.clone().float() for one in given]
    plain, picked = seen_by(Experts(made), x.float(), expected, masks), seen_by(CompiledExperts(made), x, given, masks)
    assert_equal(picked.logits, plain.logits)
    assert_equal(picked.weights, plain.weights)
    assert picked.expert_ids.tolist() == plain.expert_ids.tolist()
    for one, other in zip(given, expected, strict=True):
        assert_rounded_once(one, other)


@pytest.mark.parametrize("dtype", [FLOAT, HALF])
@pytest.mark.parametrize("tokens", [1, 9])
@torch.inference_mode()
def test_gate_and_up_of_many_tokens_agree_with_torch(tokens: int, dtype: torch.dtype) -> None:
    made = linears(2, 8, coarse=True)
    x, gate, up = torch.randn(tokens, I), torch.randn(tokens, O).to(dtype), torch.randn(tokens, O).to(dtype)
    expected = Experts(made).gate_many(x, gate.clone().float(), up.clone().float(), None, [])
    given = CompiledExperts(made).gate_many(x, gate, up, None, _Picks([(2, E, 2)], tokens))
    assert_rounded_once(given, expected)


@pytest.mark.parametrize("coarse", [False, True])
@torch.inference_mode()
def test_plain_lora_agrees_with_torch(coarse: bool) -> None:
    lora = PlainLora(linears(3, 2, experts=1, coarse=coarse))
    x, base = torch.randn(1, I), torch.randn(1, 3 * O).bfloat16()
    expected = lora.add(x, base + torch.arange(3.0 * O))
    given, _ = adapted(x, base, torch.full((1, 3 * O), torch.nan), onto=False, lora=lora)
    assert_equal(given, expected)


def test_an_expert_without_weight_adds_nothing_even_where_it_overflows() -> None:
    wrapped = linears(1, 2)
    wrapped[0].lora_A.data[2:4] = torch.inf
    masks = Masks(
        torch.tensor([[0, torch.inf, 0, 0, 0]]), torch.tensor([[True, False, True, True, True]]), torch.zeros(1, E)
    )
    base = torch.zeros(1, O).bfloat16()
    y, rows = adapted(torch.ones(1, I), base, torch.zeros(1, O), onto=True, experts=Experts(wrapped), masks=masks)
    assert -1 in rows[0, E : E + 2]
    assert y.isfinite().all()


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
def test_a_prompt_in_bfloat16_comes_as_near_to_float32_as_in_torch(kind: str) -> None:
    """After one layer, with forced picks: rounding moves others, and one that moves counts for more than all else."""
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


COMPILED = ("adapted", "attended", "gated", "mixed", "normed", "turned")


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

    for name in COMPILED:
        monkeypatch.setattr(compiled, name, watched(getattr(compiled, name)))
    step.warm_up()
    for given, expected in zip(found, read(fast.Step(model, True), plan, 3), strict=True):
        assert torch.equal(given, expected)
    after = read(step, plan, 3)
    assert not any(torch.equal(given, other) for given, other in zip(after, found, strict=True)), "compiled from now on"


@pytest.mark.parametrize("kind", ["llama", "base alone", "plain lora"])
def test_after_warming_up_nothing_is_left_to_compile(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, kinds = packable_model(**KINDS[kind]), set()

    def watched(name: str, function: Any) -> Any:
        def call(*args: Any) -> None:
            alone = args[-1] == 1 if name in ("attended", "mixed") else None
            kinds.add((name, *map(numba.typeof, args), alone))
            function(*args)

        return call

    for name in COMPILED:
        monkeypatch.setattr(compiled, name, watched(name, getattr(compiled, name)))
    step = CompiledStep(model, True)
    step.warm_up()
    known = kinds.copy()
    kinds.clear()
    for edit in (None, RoutingEdit.base()):
        read(step, Plan.of(edit, grid_of(model)), 300)
    assert kinds == known


def test_the_base_of_plain_lora_agrees_with_torch() -> None:
    model = packable_model(experts=1)
    assert_agree(model, Plan.of(RoutingEdit.base(), grid_of(model)))


def test_agrees_beyond_the_first_room_of_the_cache() -> None:
    assert_agree(packable_model(), Plan(), tokens=300)


@pytest.mark.parametrize("edit", [None, *EDITS.values()])
@torch.inference_mode()
def test_a_token_each_of_several_texts_agrees_with_each_alone(edit: RoutingEdit | None) -> None:
    model = packable_model("qwen2")
    step_of(model)
    step, plan, texts = CompiledStep(model, True), Plan.of(edit, grid_of(model)), [range(40, 52), range(90, 105)]
    caches = [fast.growing_cache(len(step.layers)) for _ in texts]
    for text, cache in zip(texts, caches, strict=True):
        step.many(torch.tensor(text), cache, plan)
    owners = torch.tensor([owner for owner, text in enumerate(texts) for _ in text] + [0, 1])
    together = fast.growing_cache(len(step.layers))
    for layer, *own in zip(together.layers, *(cache.layers for cache in caches), strict=True):
        layer.update(*(torch.cat([getattr(one, name) for one in own], dim=2) for name in ("keys", "values")))
    among = fast.Among(torch.tensor([12, 15]), owners[-2:, None] == owners)
    logits, (picked,) = step.many(torch.tensor([7, 8]), together, plan, torch.arange(2), among)
    for row, (token, cache) in enumerate(zip((7, 8), caches, strict=True)):
        expected, (alone,) = step(torch.tensor([token]), cache, plan)
        assert (logits[row] - expected[0]).abs().mean() < 5e-3 * expected.std()
        assert (picked.logits[row] - alone.logits).abs().mean() < 5e-3 * alone.logits.std()


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
