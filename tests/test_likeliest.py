"""The likeliest next tokens: the softmax of the model's own logits, recorded in the pass that answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from molora import reading
from molora.engine import Engine
from molora.likeliest import CANDIDATES, likeliest
from molora.text import TokenText
from molora.trace import ANSWER, RoutingTrace
from tests.released import make_tokenizer

QUESTION = [{"role": "user", "content": "What are the symptoms of asthma? 哮喘有哪些症状？"}]
SETTINGS = {"max_new_tokens": 8, "temperature": 1.3, "repetition_penalty": 1.4, "seed": 5}


def speaking(trace: RoutingTrace) -> np.ndarray:
    """Rows that must have candidates: the last of the prompt, and all of the answer."""
    rows = trace.phase == ANSWER
    rows[rows.argmax() - 1] = True
    return rows


def test_the_softmax_is_over_the_whole_vocabulary_and_sorted() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [9.0, 0.0, 0.0, 0.0, 0.0, 200.0]])
    ids, shares = likeliest(logits).numpy()
    assert ids[0].tolist() == [5, 4, 3, 2, 1]
    np.testing.assert_allclose(shares[0], np.exp([5, 4, 3, 2, 1]) / np.exp(np.arange(6)).sum(), rtol=1e-6)
    assert ids[1, :2].tolist() == [5, 0]
    assert shares.max() <= 1


def test_a_small_vocabulary_has_fewer(engine: Engine) -> None:
    assert likeliest(torch.zeros(1, 3)).shape == (2, 1, 3)


@pytest.mark.parametrize("chunk", [512, 16])
def test_candidates_are_the_models_own_before_the_sampling(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(reading, "PREFILL_CHUNK", chunk)
    trace = engine.answer(QUESTION, **SETTINGS).trace
    with torch.inference_mode():
        logits = engine.model(torch.from_numpy(trace.token_ids.astype(np.int64))[None]).logits[0].double()
    shares, ids = torch.softmax(logits, -1).topk(CANDIDATES)  # [T, C]
    rows = speaking(trace)
    np.testing.assert_array_equal(trace.candidate_ids[rows], ids[rows])
    np.testing.assert_allclose(trace.candidate_probabilities[rows], shares[rows], rtol=1e-4)
    assert (trace.candidate_ids[~rows] == -1).all()
    assert not trace.candidate_probabilities[~rows].any()


def test_together_is_as_alone(engine: Engine) -> None:
    other = [{"role": "user", "content": "How?"}]
    for step, messages in zip(engine.answers([QUESTION, other], **SETTINGS), (QUESTION, other), strict=True):
        alone = engine.answer(messages, **SETTINGS).trace
        np.testing.assert_array_equal(step.trace.candidate_ids, alone.candidate_ids)
        np.testing.assert_allclose(step.trace.candidate_probabilities, alone.candidate_probabilities, atol=1e-4)


def test_rows_are_appended_and_stay(engine: Engine) -> None:
    first, *_, last = [step.trace for step in engine.stream(QUESTION, max_new_tokens=5)]
    assert np.shares_memory(first.candidate_ids, last.candidate_ids)
    np.testing.assert_array_equal(first.candidate_ids, last.candidate_ids[: len(first)])
    assert first.candidates(len(first) - 1) == last.candidates(len(first) - 1)


def test_an_answer_that_is_only_scored_has_none(engine: Engine) -> None:
    engine.logprobs(QUESTION, [5, 6, 7])
    trace = engine.trace_text("Only read.")
    assert trace.candidates(0) == []
    assert len(trace.candidates(len(trace) - 1)) == CANDIDATES


def test_each_candidate_has_its_text(engine: Engine) -> None:
    trace = engine.answer(QUESTION, max_new_tokens=3).trace
    for token, text, share in trace.candidates(len(trace) - 1):
        assert text == TokenText(engine.tokenizer).inner(token)
        assert 0 < share < 1


def test_texts_of_candidates_wait_until_they_are_looked_at(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    looked, inner = list[int](), TokenText.inner

    def look(self: TokenText, token_id: int) -> str:
        looked.append(token_id)
        return inner(self, token_id)

    monkeypatch.setattr(TokenText, "inner", look)
    trace = engine.answer(QUESTION, max_new_tokens=3).trace
    assert not looked
    first, again = (trace.candidates(len(trace) - 1) for _ in range(2))
    assert looked == [token for token, *_ in first]
    assert again == first


def test_texts_are_those_of_all_candidates_and_of_nothing_else(engine: Engine, tmp_path: Path) -> None:
    trace = engine.answer(QUESTION, max_new_tokens=3).trace
    known = set(trace.candidate_ids.ravel().tolist()) - {-1}
    assert len(trace.candidate_text) == len(known)
    assert {int(name) for name in trace.candidate_text} == known
    some, other = min(known), next(token for token in range(len(known) + 1) if token not in known)
    for name in ("-1", str(other), f"0{some}", "one", "", "\N{FULLWIDTH DIGIT ONE}", "9" * 40):
        assert name not in trace.candidate_text, name
    trace.save(tmp_path / "trace.npz")
    assert RoutingTrace.load(tmp_path / "trace.npz").candidate_text == trace.candidate_text


def test_a_token_alone_keeps_its_space_and_a_part_of_a_character_is_empty() -> None:
    tokenizer = make_tokenizer()
    spaced = tokenizer.encode("a word", add_special_tokens=False)[1]
    assert TokenText(tokenizer).inner(spaced).startswith(" ")
    parts = tokenizer.encode("😀", add_special_tokens=False)
    assert len(parts) > 1
    assert TokenText(tokenizer).inner(parts[0]) == ""
