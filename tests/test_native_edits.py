"""Edits of native routers: each rule equals the model's own code, and an edit changes what it says and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

import molora
from molora.edits import RoutingEdit
from molora.engine import Engine
from molora.errors import MoloraError
from molora.native.router import Decision, NativeRouter
from molora.native.rules import Grouped, SoftmaxThenTopK, TopKThenSoftmax
from molora.routers import grid_of
from tests.native_models import FAMILIES, make_native

QUESTION = [{"role": "user", "content": "What are the symptoms of asthma?"}]
TEXT = "How is diabetes treated? With insulin, diet and exercise. 哮喘有哪些症状？"
RULED = [family for family in FAMILIES if family != "ernie4_5_moe"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: make_native(tmp_path_factory.mktemp(family), family) for family in FAMILIES}


@pytest.fixture(scope="module")
def engines(folders: dict[str, Path]) -> dict[str, Engine]:
    return {family: molora.load(str(folder)) for family, folder in folders.items()}


def hooks_of(model: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)


def experts_of(model: Any, layer: int) -> nn.Module:
    return next(module for name, module in model.named_modules() if name.endswith(f"layers.{layer}.mlp.experts"))


@pytest.mark.parametrize("family", RULED)
def test_a_rule_without_offset_is_the_models_own_code_to_the_bit(engines: dict[str, Engine], family: str) -> None:
    engine = engines[family]
    for router in grid_of(engine.model).routers:
        assert isinstance(router, NativeRouter)
        assert router.rule is not None
        heard: list[Decision] = []
        handle = router._seam.listen(heard.append)
        engine.trace_text(TEXT)
        handle.remove()
        (own,) = heard
        weights, ids = router.rule(own.logits, torch.zeros(router.num_experts))
        assert torch.equal(weights.to(own.weights.dtype), own.weights)
        assert torch.equal(ids, own.expert_ids)


@pytest.mark.parametrize("rule", [SoftmaxThenTopK(3, True), SoftmaxThenTopK(3, False), TopKThenSoftmax(3)], ids=str)
def test_a_barred_expert_is_as_if_it_did_not_exist(rule: Any) -> None:
    logits = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    rest = [0, 1, 3, 4, 6, 7]
    weights, ids = rule(logits, torch.tensor([0, 0, -torch.inf, 0, 0, -torch.inf, 0, 0]))
    expected, places = rule(logits[:, rest], torch.zeros(6))
    torch.testing.assert_close(weights, expected)
    assert torch.equal(ids, torch.tensor(rest)[places])


@pytest.mark.parametrize("rule", [SoftmaxThenTopK(3, True), SoftmaxThenTopK(3, False), TopKThenSoftmax(3)], ids=str)
def test_a_forced_expert_is_weighed_by_its_own_logit(rule: Any) -> None:
    logits = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    weights, ids = rule(logits, torch.tensor([0, 0, torch.inf, 0, 0, 0, 0, 0]))
    assert (ids == 2).any(dim=-1).all()
    powers = logits.gather(-1, ids).exp()
    total = powers if not isinstance(rule, SoftmaxThenTopK) or rule.renormalise else logits.exp()
    torch.testing.assert_close(weights, powers / total.sum(-1, keepdim=True))


def by_hand(logits: list[float], bias: list[float] | None, barred: set[int], forced: set[int]) -> dict[int, float]:
    """DeepSeek's choice for one token: 3 of 8 experts, out of 2 of 4 groups; weights before scaling."""
    usable = {e: value for e, value in enumerate(logits) if e not in barred}
    if bias is None:
        total = sum(np.exp(value) for value in usable.values())
        scores = {e: np.exp(value) / total for e, value in usable.items()}
    else:
        scores = {e: 1 / (1 + np.exp(-value)) for e, value in usable.items()}
    ranking = {e: np.inf if e in forced else score + (bias[e] if bias else 0) for e, score in scores.items()}

    def of_group(group: int) -> float:
        inside = sorted((ranking.get(e, -np.inf) for e in (2 * group, 2 * group + 1)), reverse=True)
        if bias is None or inside[0] == np.inf:
            return inside[0]
        return inside[0] + inside[1]

    groups = sorted(range(4), key=of_group, reverse=True)[:2]
    picked = sorted((e for e in ranking if e // 2 in groups), key=lambda e: -ranking[e])[:3]
    total = sum(scores[e] for e in picked)
    return {e: scores[e] / total if bias else scores[e] for e in picked}


@pytest.mark.parametrize(
    ("barred", "forced"), [(set(), set()), ({0, 1}, set()), (set(), {5}), ({2}, {6, 7}), ({0, 1}, {3})]
)
@pytest.mark.parametrize("sigmoid", [True, False])
def test_groups_by_hand(sigmoid: bool, barred: set[int], forced: set[int]) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(60, 8, generator=generator)
    bias = torch.randn(8, generator=generator) * 0.3 if sigmoid else None
    rule = Grouped(3, 4, 2, 2.5, renormalise=sigmoid, bias=bias)
    rule.check(barred, forced, 8, "here")
    offset = torch.zeros(8)
    offset[sorted(barred)], offset[sorted(forced)] = -torch.inf, torch.inf
    for row, weights, ids in zip(logits, *rule(logits, offset), strict=True):
        expected = by_hand(row.tolist(), bias.tolist() if bias is not None else None, barred, forced)
        assert dict(zip(ids.tolist(), (weights / 2.5).tolist(), strict=True)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("family", RULED)
def test_reroute_and_force_hold_where_they_should_and_only_there(engines: dict[str, Engine], family: str) -> None:
    engine = engines[family]
    first, second = engine.info.layers[:2]
    usual = engine.trace_text(TEXT)
    popular = int(np.bincount(usual.expert_ids[:, 1].ravel()).argmax())
    bar = engine.trace_text(TEXT, RoutingEdit.reroute([popular], layers=[second]))
    assert not (bar.expert_ids[:, 1] == popular).any()
    assert (bar.expert_ids >= 0).all()
    np.testing.assert_array_equal(bar.expert_ids[:, 0], usual.expert_ids[:, 0])
    np.testing.assert_array_equal(bar.router_logits[:, 1], usual.router_logits[:, 1])
    rare = int(np.bincount(usual.expert_ids[:, 0].ravel(), minlength=engine.info.num_experts).argmin())
    force = engine.trace_text(TEXT, RoutingEdit.force([rare], layers=[first]))
    assert (force.expert_ids[:, 0] == rare).any(axis=-1).all()
    assert not (usual.expert_ids[:, 0] == rare).any(axis=-1).all()


@pytest.mark.parametrize("family", list(FAMILIES))
def test_dropping_a_layers_experts_is_the_model_without_their_output(
    engines: dict[str, Engine], folders: dict[str, Path], family: str
) -> None:
    engine = engines[family]
    layer = engine.info.layers[-1]

    def logits(edit: RoutingEdit | None) -> Tensor:
        ids = engine.tokenizer(TEXT)["input_ids"]
        reading = engine._reading(len(ids), 0, edit)
        with reading.recording():
            return reading.read(ids, [""] * len(ids), [1] * len(ids))

    dropped = logits(RoutingEdit.drop(range(engine.info.num_experts), layers=[layer]))
    reference: Any = AutoModelForCausalLM.from_pretrained(folders[family]).eval()
    blocks = [name for name, _ in reference.named_modules() if name.endswith(".experts")]
    reference.get_submodule(blocks[-1]).register_forward_hook(lambda _module, _args, output: torch.zeros_like(output))
    with torch.inference_mode():
        expected = reference(torch.tensor([engine.tokenizer(TEXT)["input_ids"]])).logits[:, -1]
    torch.testing.assert_close(dropped, expected)
    assert (dropped - logits(None)).abs().max() > 1e-3


@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_dropped_slot_is_marked_and_the_other_weights_stay(engines: dict[str, Engine], family: str) -> None:
    engine = engines[family]
    usual = engine.trace_text(TEXT)
    gone = int(usual.expert_ids[0, 0, 0, 0])
    trace = engine.trace_text(TEXT, RoutingEdit.drop([gone], layers=[engine.info.layers[0]]))
    np.testing.assert_array_equal(trace.expert_weights == 0, trace.expert_ids == -1)
    for ids, weights, before, had in zip(
        trace.expert_ids[:, 0, 0], trace.expert_weights[:, 0, 0], usual.expert_ids[:, 0, 0],
        usual.expert_weights[:, 0, 0], strict=True,
    ):  # fmt: skip
        expected = {e: w for e, w in zip(before.tolist(), had.tolist(), strict=True) if e != gone}
        assert {e: w for e, w in zip(ids.tolist(), weights.tolist(), strict=True) if e != -1} == expected
    assert not (trace.expert_ids[:, 1] == -1).any()


@pytest.mark.parametrize("family", ["mixtral", "deepseek_v3"])
def test_an_edit_leaves_nothing_behind(engines: dict[str, Engine], family: str) -> None:
    engine = engines[family]
    hooks = hooks_of(engine.model)
    before = engine.trace_text(TEXT)
    edit = RoutingEdit.reroute([0]) | RoutingEdit.drop([1])
    steps = engine.stream(QUESTION, max_new_tokens=8, edit=edit)
    next(steps)
    other = engine.trace_text(TEXT)  # a request of its own in between
    steps.close()
    np.testing.assert_array_equal(other.expert_ids, before.expert_ids)
    block = experts_of(engine.model, engine.info.layers[-1])

    def fail(*_: Any) -> None:
        raise RuntimeError("out of memory")

    handle = block.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        engine.trace_text(TEXT, edit)
    handle.remove()
    assert hooks_of(engine.model) == hooks
    np.testing.assert_array_equal(engine.trace_text(TEXT).expert_weights, before.expert_weights)


def test_answers_under_an_edit_say_so(engines: dict[str, Engine]) -> None:
    step = engines["olmoe"].answer(QUESTION, max_new_tokens=4, edit=RoutingEdit.reroute([2], projections=["mlp"]))
    assert step.trace.meta["edit"]["words"] == "never picking expert 2 of mlp"
    assert not (step.trace.expert_ids == 2).any()


@pytest.mark.parametrize(
    ("family", "edit", "message"),
    [
        (
            "ernie4_5_moe",
            RoutingEdit.reroute([0]),
            r"Ernie4_5_Moe does not allow that. .* with it: drop\.",
        ),
        ("mixtral", RoutingEdit.base(), "Mixtral has no attention LoRA to switch off. .* drop, reroute, force"),
        ("mixtral", RoutingEdit.drop([4]), "names expert 4; the model has 0 to 3"),
        ("mixtral", RoutingEdit.reroute([0, 1, 2]), "leaves fewer than 2 experts to pick from in layer 0, mlp"),
        ("deepseek_v3", RoutingEdit.drop([1], layers=[0]), "names layer 0; the model has 1 to 2"),
        ("deepseek_v3", RoutingEdit.force([0, 2, 4]), "forces experts of 3 groups in layer 1, mlp; .* 2 of 4 groups"),
        ("deepseek_v2", RoutingEdit.reroute([0, 2, 4]), "may leave fewer than 3 experts in the 2 of 4 groups"),
    ],
)
def test_edits_that_cannot_be_are_refused(
    engines: dict[str, Engine], family: str, edit: RoutingEdit, message: str
) -> None:
    with pytest.raises(MoloraError, match=message):
        engines[family].stream(QUESTION, edit=edit)
