"""Conversations answered in the same passes: each has the answer and the trace that it has alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from transformers import MistralConfig, Qwen2Config

import molora
from molora import RoutingEdit, reading
from molora.engine import Engine, Step
from molora.errors import MoloraError
from molora.together import sees_all
from tests.released import make_checkpoint

QUESTIONS = ["What are the symptoms of asthma? 哮喘有哪些症状？", "How?", "How is diabetes treated in old age?", "发烧"]
CONVERSATIONS = [[{"role": "user", "content": question}] for question in QUESTIONS]


def assert_same(one: Step, other: Step) -> None:
    assert (one.text, one.num_tokens, one.finished) == (other.text, other.num_tokens, other.finished)
    assert one.trace.token_text == other.trace.token_text
    assert one.trace.meta == other.trace.meta
    for name in ("token_ids", "phase", "expert_ids"):
        np.testing.assert_array_equal(getattr(one.trace, name), getattr(other.trace, name))
    for name in ("router_logits", "expert_weights"):
        np.testing.assert_allclose(getattr(one.trace, name), getattr(other.trace, name), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("settings", [{}, {"temperature": 1.2, "top_p": 0.9, "seed": 3, "repetition_penalty": 1.2}])
def test_together_is_as_alone(engine: Engine, settings: dict[str, float]) -> None:
    together = engine.answers(CONVERSATIONS, max_new_tokens=9, **settings)
    assert len(together) == len(CONVERSATIONS)
    for step, messages in zip(together, CONVERSATIONS, strict=True):
        assert_same(step, engine.answer(messages, max_new_tokens=9, **settings))


def test_each_ends_on_its_own(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = engine.answer(CONVERSATIONS[0], max_new_tokens=9)
    monkeypatch.setattr(engine, "_stop_ids", {int(alone.trace.token_ids[-4])})
    together = engine.answers(CONVERSATIONS, max_new_tokens=9)
    assert together[0].finished == "stop"
    assert {step.finished for step in together} == {"stop", "length"}
    for step, messages in zip(together, CONVERSATIONS, strict=True):
        assert_same(step, engine.answer(messages, max_new_tokens=9))


def test_chunks_may_cut_anywhere(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = engine.answers(CONVERSATIONS, max_new_tokens=3)
    monkeypatch.setattr(reading, "PREFILL_CHUNK", 7)
    for step, other in zip(engine.answers(CONVERSATIONS, max_new_tokens=3), whole, strict=True):
        assert_same(step, other)


def test_an_edit_holds_for_all(engine: Engine) -> None:
    edit = RoutingEdit.reroute(experts=[1])
    for step, messages in zip(engine.answers(CONVERSATIONS, max_new_tokens=4, edit=edit), CONVERSATIONS, strict=True):
        assert 1 not in step.trace.expert_ids
        assert step.trace.edit == str(edit)
        assert_same(step, engine.answer(messages, max_new_tokens=4, edit=edit))


def test_routers_that_draw_do_not_depend_on_the_company(base: Path, tmp_path: Path) -> None:
    engine = molora.load(str(make_checkpoint(tmp_path, base, config={"expert_selection": "sampling"})))
    together = engine.answers(CONVERSATIONS[:2], max_new_tokens=3, seed=1)
    assert_same(together[1], engine.answer(CONVERSATIONS[1], max_new_tokens=3, seed=1))


def test_what_cannot_be_answered_is_named(engine: Engine) -> None:
    with pytest.raises(MoloraError, match=r"^Conversation 1: The question is empty; type one\.$"):
        engine.answers([CONVERSATIONS[0], [{"role": "user", "content": " "}]])


def test_no_conversation_has_no_answer(engine: Engine) -> None:
    assert engine.answers([]) == []


def test_only_layers_that_see_all_of_the_past_answer_together() -> None:
    whole = Qwen2Config(num_hidden_layers=2)
    assert sees_all(whole)
    assert not sees_all(MistralConfig(num_hidden_layers=2, sliding_window=16))
    assert not sees_all(Qwen2Config(num_hidden_layers=2, use_sliding_window=True, max_window_layers=1))
