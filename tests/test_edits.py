from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

import molora
from molora.config import LoraConfig
from molora.edits import RoutingEdit
from molora.engine import Engine
from molora.errors import MoloraError
from molora.layers import MoloraLinear

QUESTION = [{"role": "user", "content": "What are the symptoms of asthma?"}]
GATE = "gate_proj"


def plain(linear: MoloraLinear, x: torch.Tensor, edit: RoutingEdit) -> torch.Tensor:
    """The edited mixture by a loop over tokens and experts, in float64, straight from the rules."""
    assert linear.router is not None
    bars, forces, drops = (
        {
            e
            for rule in edit.rules
            if rule.kind == kind
            for e in (rule.experts if rule.experts is not None else range(6))
        }
        for kind in ("reroute", "force", "drop")
    )
    alone = [e for rule in edit.rules if rule.kind == "alone" for e in rule.experts or ()]
    equal = any(rule.kind == "uniform" for rule in edit.rules)
    result = []
    for token in x.double():
        logits = linear.router.weight.double() @ token + linear.router.bias.double()
        free = sorted((e for e in range(6) if e not in bars | forces), key=lambda e: -logits[e].item())
        picked = alone or [*forces, *free][: linear.router.top_k]
        weights = torch.softmax(logits[picked] * (not equal), dim=0)
        y = linear.base_layer.double()(token)
        for weight, e in zip(weights, picked, strict=True):
            if e not in drops:
                a, b = (p.double() for p in (linear.lora_A.view(6, 3, -1)[e], linear.lora_B.view(-1, 6, 3)[:, e]))
                y = y + weight * linear.scaling * (b @ (a @ token))
        result.append(y)
    return torch.stack(result)


@pytest.mark.parametrize(
    "edit",
    [
        RoutingEdit.drop([1, 4]),
        RoutingEdit.reroute([0, 2, 3]),
        RoutingEdit.force([5]),
        RoutingEdit.force([5, 0]) | RoutingEdit.drop([5]) | RoutingEdit.reroute([1]),
        RoutingEdit.experts_off(),
        RoutingEdit.uniform(),
        RoutingEdit.uniform() | RoutingEdit.drop([1, 4]) | RoutingEdit.force([2]),
        RoutingEdit.alone(3),
        RoutingEdit.alone(3) | RoutingEdit.uniform(),
    ],
    ids=str,
)
def test_masks_do_what_the_rules_say(edit: RoutingEdit) -> None:
    torch.manual_seed(0)
    linear = MoloraLinear(torch.nn.Linear(10, 7), 6, 2, LoraConfig(r=3, alpha=6))
    torch.nn.init.normal_(linear.lora_B)
    x = torch.randn(40, 10)
    assert linear.router is not None
    linear.router.masks = edit.masks(0, GATE, 6, torch.device("cpu"))
    with torch.no_grad():
        torch.testing.assert_close(linear(x).double(), plain(linear, x, edit), rtol=1e-4, atol=1e-4)


def picks(engine: Engine, edit: RoutingEdit | None) -> tuple[np.ndarray, np.ndarray]:
    trace = engine.answer(QUESTION, max_new_tokens=4, edit=edit).trace
    return trace.expert_ids, trace.expert_weights


def test_trace_shows_the_edit_where_it_holds_and_only_there(engine: Engine) -> None:
    edit = RoutingEdit.drop([0, 1, 2], layers=[1], projections=[GATE]) | RoutingEdit.force([7], layers=[2])
    ids, weights = picks(engine, edit)
    assert not np.isin(ids[:, 1, 0], [0, 1, 2]).any()
    assert (ids[:, 1, 0] == -1).any(), "switched-off slots are marked"
    np.testing.assert_array_equal(weights == 0, ids == -1)
    assert (ids[:, 2] == 7).any(axis=-1).all()
    assert not (np.delete(ids, 1, axis=1) == -1).any()
    prompt = 20  # tokens that both have read; the first layer comes before any edit
    np.testing.assert_array_equal(ids[:prompt, 0], picks(engine, None)[0][:prompt, 0])


def test_one_expert_alone_has_all_the_weight_and_uniform_gates_share_it(engine: Engine) -> None:
    edit = RoutingEdit.alone(5, layers=[1], projections=[GATE]) | RoutingEdit.uniform(layers=[2])
    ids, weights = picks(engine, edit)
    np.testing.assert_array_equal(ids[:, 1, 0], np.broadcast_to([5, -1], ids[:, 1, 0].shape))
    np.testing.assert_array_equal(weights[:, 1, 0], np.broadcast_to([1, 0], weights[:, 1, 0].shape))
    assert (weights[:, 2] == 0.5).all()
    assert (ids[:, 2] >= 0).all()
    assert (np.delete(weights, 2, axis=1)[:, 0] != 0.5).any()
    words = engine.trace_text("asthma", edit=edit).edit
    assert words == "all tokens to expert 5 alone in layer 1 of gate_proj; equal weights in layer 2"


def test_an_edit_leaves_nothing_behind_and_does_not_reach_other_requests(engine: Engine) -> None:
    alone, _ = picks(engine, None)
    edited = engine.stream(QUESTION, max_new_tokens=4, edit=RoutingEdit.reroute([0, 1, 2, 3, 4, 5]))
    usual = engine.stream(QUESTION, max_new_tokens=4)
    both = [(one.trace, two.trace) for one, two in zip(edited, usual, strict=False)]
    assert set(np.unique(both[-1][0].expert_ids)) == {6, 7}
    np.testing.assert_array_equal(both[-1][1].expert_ids, alone[: len(both[-1][1])])
    np.testing.assert_array_equal(picks(engine, None)[0], alone)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft's
def test_base_is_the_base_model_and_experts_off_is_peft_alone(engine: Engine) -> None:
    ids = torch.arange(5, 25)[None]

    def logits(edit: RoutingEdit) -> torch.Tensor:
        reading = engine._reading(20, 0, edit)
        with reading.recording():
            return reading.read(ids[0].tolist(), [""] * 20, [1] * 20)

    base = AutoModelForCausalLM.from_pretrained(engine.info.base)
    with torch.inference_mode():
        alone = base(ids).logits[:, -1]
        attention = PeftModel.from_pretrained(base, engine.info.model).eval()(ids).logits[:, -1]
    torch.testing.assert_close(logits(RoutingEdit.base()), alone, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits(RoutingEdit.experts_off()), attention, rtol=1e-4, atol=1e-4)
    assert (logits(RoutingEdit.attention_off()) - alone).abs().max() > 1e-2


def test_meta_says_the_edit_in_words_and_as_data(engine: Engine) -> None:
    edit = molora.RoutingEdit.drop([3], range(2), ["up_proj"]) | molora.RoutingEdit.attention_off()
    meta = engine.trace_text("asthma", edit=edit).meta["edit"]
    assert meta["words"] == "without expert 3 in layers 0-1 of up_proj; without the attention LoRA"
    assert meta["rules"][0] == {"kind": "drop", "experts": (3,), "layers": (0, 1), "projections": ("up_proj",)}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (RoutingEdit.drop([8]), "names expert 8; the model has 0 to 7"),
        (RoutingEdit.drop([1], layers=[3]), "names layer 3; the model has 0 to 2"),
        (RoutingEdit.drop([1], projections=["mlp"]), "names projection 'mlp'; the model has gate_proj, up_proj, down"),
        (RoutingEdit.reroute(range(7)), "leaves fewer than 2 experts to pick from in layer 0, gate_proj"),
        (RoutingEdit.force([0, 1, 2]), "forces 3 experts in layer 0, gate_proj; each token has 2"),
        (RoutingEdit.force([1]) | RoutingEdit.reroute([1]), "both bars and forces expert 1 in layer 0, gate_proj"),
        (RoutingEdit.alone(8), "names expert 8; the model has 0 to 7"),
        (
            RoutingEdit.alone(1) | RoutingEdit.alone(2),
            "to expert 1 alone, and says otherwise too in layer 0, gate_proj",
        ),
        (RoutingEdit.alone(1) | RoutingEdit.force([2]), "to expert 1 alone, and says otherwise too in layer 0"),
        (RoutingEdit.alone(1) | RoutingEdit.reroute([1]), "to expert 1 alone, and says otherwise too in layer 0"),
    ],
)
def test_edits_that_cannot_be_are_refused(engine: Engine, edit: RoutingEdit, message: str) -> None:
    with pytest.raises(MoloraError, match=message):
        engine.stream(QUESTION, edit=edit)


def test_spans_in_words() -> None:
    def words(layers: Iterable[int]) -> str:
        return str(RoutingEdit.reroute([1, 2, 5], layers))

    assert words([7]) == "never picking experts 1-2, 5 in layer 7"
    assert words(range(10)) == "never picking experts 1-2, 5 in layers 0-9"
    assert str(RoutingEdit()) == "no edit"
