"""Effects of edits: against a plain full pass of the model, changed by hand where there is an edit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from molora import reading
from molora.chat import encode_chat
from molora.edits import RoutingEdit
from molora.effects import ablation, answer_logprobs, recorded_answer
from molora.engine import Engine
from molora.errors import MoloraError
from molora.layers import MoloraLinear

QUESTION = [{"role": "user", "content": "What are the symptoms of asthma? 哮喘有哪些症状？"}]
ANSWER = [40, 41, 7, 52, 40, 61, 9]


def plain(engine: Engine) -> np.ndarray:
    """Log-probabilities [A] from one pass over everything, with no cache and no chunk."""
    prompt = encode_chat(engine.tokenizer, QUESTION).token_ids
    ids = torch.tensor([prompt + ANSWER])
    with torch.inference_mode():
        scores = engine.model(ids, use_cache=False).logits[0].float().log_softmax(-1)  # [T, V]
    return scores[len(prompt) - 1 : -1].gather(1, torch.tensor(ANSWER)[:, None])[:, 0].numpy()


@pytest.mark.parametrize("chunk", [512, 5, 1])
def test_logprobs_are_those_of_a_plain_pass(engine: Engine, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(reading, "PREFILL_CHUNK", chunk)
    scores = answer_logprobs(engine, QUESTION, ANSWER)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, plain(engine), atol=1e-4)


@pytest.mark.parametrize("chunk", [512, 5])
def test_logprobs_under_an_edit_are_those_of_a_model_without_the_expert(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(reading, "PREFILL_CHUNK", chunk)
    scores = answer_logprobs(engine, QUESTION, ANSWER, RoutingEdit.drop([1], layers=[0]))
    linears = [
        module
        for name, module in engine.model.named_modules()
        if isinstance(module, MoloraLinear) and module.router is not None and ".layers.0." in f".{name}"
    ]
    assert len(linears) == 3
    kept = [linear.lora_B.clone() for linear in linears]
    with torch.no_grad():
        for linear in linears:
            rank = linear.lora_B.shape[1] // engine.info.num_experts  # columns of one expert lie together
            linear.lora_B[:, rank : 2 * rank] = 0
    try:
        expected = plain(engine)
    finally:
        with torch.no_grad():
            for linear, whole in zip(linears, kept, strict=True):
                linear.lora_B.copy_(whole)
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert np.abs(scores - plain(engine)).max() > 1e-3


def test_a_sweep_tells_each_expert_in_turn_and_stops_when_closed(engine: Engine) -> None:
    effects = list(ablation(engine, QUESTION, ANSWER, range(4), layers=[1], projections=["up_proj"]))
    assert [effect.expert for effect in effects] == [0, 1, 2, 3]
    whole = answer_logprobs(engine, QUESTION, ANSWER)
    edit = RoutingEdit.drop([2], layers=[1], projections=["up_proj"])
    np.testing.assert_allclose(effects[2].change, answer_logprobs(engine, QUESTION, ANSWER, edit) - whole, atol=1e-6)
    assert effects[2].mean == pytest.approx(effects[2].change.mean(), abs=1e-6)
    assert any(effect.change.any() for effect in effects)
    np.testing.assert_array_equal(answer_logprobs(engine, QUESTION, ANSWER), whole)


def test_an_answer_goes_on_from_where_it_is_begun(engine: Engine) -> None:
    whole = engine.answer(QUESTION, max_new_tokens=12, repetition_penalty=1.2)
    ids = recorded_answer(whole.trace)
    assert len(ids) == 11
    steps = list(engine.stream(QUESTION, max_new_tokens=7, repetition_penalty=1.2, begun=ids[:5]))
    assert recorded_answer(steps[-1].trace) == ids
    assert steps[-1].text == whole.text
    assert [step.num_tokens for step in steps] == list(range(6, 13))
    assert steps[-1].finished == "length"
    assert steps[-1].trace.meta["begun"] == 5
    np.testing.assert_array_equal(steps[-1].trace.phase, whole.trace.phase)
    np.testing.assert_allclose(steps[-1].trace.router_logits, whole.trace.router_logits, rtol=1e-4, atol=1e-4)


def test_a_beginning_is_read_under_the_edit(engine: Engine) -> None:
    edit = RoutingEdit.reroute([0])
    step = engine.answer(QUESTION, max_new_tokens=3, begun=ANSWER, edit=edit)
    assert recorded_answer(step.trace)[: len(ANSWER)] == ANSWER
    assert not (step.trace.expert_ids == 0).any()
    assert step.trace.edit == str(edit)


@pytest.mark.parametrize(
    ("ids", "edit", "message"),
    [
        ([], None, "no token to score"),
        ([-1], None, "holds the token -1"),
        ([10**6], None, "holds the token 1000000"),
        ([5] * 5000, None, "can be read"),
        ([5], RoutingEdit.drop([99]), "names expert 99"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    engine: Engine, ids: list[int], edit: RoutingEdit | None, message: str
) -> None:
    with pytest.raises(MoloraError, match=message):
        answer_logprobs(engine, QUESTION, ids, edit)


def test_a_beginning_that_ends_the_answer_is_refused(engine: Engine) -> None:
    with pytest.raises(MoloraError, match="ends an answer"):
        engine.stream(QUESTION, begun=[5, engine.tokenizer.eos_token_id])
