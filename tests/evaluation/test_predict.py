"""Predictions on a random model: exact against plain forward passes, the same in a batch as one by one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from molora.chat import encode_chat
from molora.engine import Engine
from molora.evaluation.predict import choice_scores, free_answers, predict
from molora.evaluation.systems import System
from molora.tasks import TASKS, Item
from molora.training.examples import IGNORED, as_messages, encode

FREE = [
    Item("What are the symptoms of asthma?", "A cough."),
    Item("How?", "So."),
    Item("Diabetes is treated with insulin, diet and exercise. How long, and why?", "Long."),
    Item("哮喘有哪些症状？", "咳嗽"),
    Item("A tight chest and short breath since this morning, what is it?", "Asthma."),
]
WRITE = replace(TASKS["medquad_treatment"], name="write", answer_tokens=12)
CHOICES = ("yes", "no", "a tight chest and a cough", "咳嗽")


@pytest.fixture(scope="module")
def system(engine: Engine) -> System:
    return System("molora", engine.model, engine.tokenizer)


def plain_score(system: System, item: Item) -> Tensor:
    """Log-likelihood of answer and end of turn, by one forward pass over all of it."""
    example = encode(system.tokenizer, as_messages(item), 1000)
    assert example is not None
    ids, labels = torch.tensor([example.token_ids]), torch.tensor(example.labels)
    with torch.inference_mode():
        log_p = system.model(ids).logits.log_softmax(-1)  # [1, T, V]
    at = (labels != IGNORED).nonzero()[:, 0]
    return log_p[0, at - 1, labels[at]].sum()


def test_choices_are_scored_as_one_forward_pass_over_prompt_and_choice_would(system: System) -> None:
    prompt = "Is it asthma? The chest is tight."
    ids = encode_chat(system.tokenizer, [{"role": "user", "content": prompt}]).token_ids
    scores = choice_scores(system.model, system.tokenizer, ids, CHOICES)
    plain = torch.stack([plain_score(system, Item(prompt, choice)) for choice in CHOICES])
    torch.testing.assert_close(scores, plain, rtol=1e-5, atol=1e-4)


def test_the_likeliest_choice_is_said(system: System) -> None:
    items = [Item(item.prompt, "yes", CHOICES) for item in FREE]
    said = predict(system, WRITE, items)
    for item, answer in zip(items, said, strict=True):
        plain = [plain_score(system, Item(item.prompt, choice)).item() for choice in CHOICES]
        assert answer == CHOICES[plain.index(max(plain))]


@pytest.mark.parametrize("batch_size", [2, 5])
def test_a_batch_says_what_one_by_one_says(system: System, batch_size: int) -> None:
    assert len(set(alone := predict(system, WRITE, FREE, batch_size=1))) > 1
    assert predict(system, WRITE, FREE, batch_size=batch_size) == alone


def test_free_answers_are_the_likeliest_tokens_one_after_the_other(system: System) -> None:
    for item, said in zip(FREE, predict(system, WRITE, FREE), strict=True):
        prompt = encode_chat(system.tokenizer, [{"role": "user", "content": item.prompt}]).token_ids
        ids = list(prompt)
        with torch.inference_mode():
            while len(ids) < len(prompt) + WRITE.answer_tokens and ids[-1] != system.tokenizer.eos_token_id:
                ids.append(int(system.model(torch.tensor([ids])).logits[0, -1].argmax()))
        assert said == system.tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True).strip()


def test_an_answer_ends_where_the_turn_does(system: System) -> None:
    """The model's second token is made the one that ends a turn."""
    prompt = encode_chat(system.tokenizer, [{"role": "user", "content": FREE[0].prompt}]).token_ids
    with torch.inference_mode():
        written = system.model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=6, do_sample=False
        )[0, len(prompt) :].tolist()
    assert written[1] != written[0]

    class Ends:
        eos_token_id = written[1]

        def get_vocab(self) -> dict[str, int]:
            return {}

        def decode(self, ids: list[int], **_options: Any) -> str:
            return repr(ids)

    assert free_answers(system.model, Ends(), [prompt], 6) == [repr(written[:1])]


@dataclass
class Told:
    """A system that has to know its task."""

    model: Any
    tokenizer: Any
    name: str = "oracle"
    events: list[str] = field(default_factory=list)

    @contextmanager
    def on(self, task: str) -> Iterator[None]:
        handle = self.model.register_forward_pre_hook(lambda *_: self.events.append(task))
        try:
            yield
        finally:
            handle.remove()
            self.events.append("end")


def test_a_system_is_told_its_task_while_it_works(system: System) -> None:
    told = Told(system.model, system.tokenizer)
    predict(told, WRITE, FREE[:2])
    assert set(told.events[:-1]) == {"write"}
    assert told.events[-1] == "end"


def test_choices_and_free_answers_keep_their_places(system: System) -> None:
    mixed = [FREE[0], Item("Is it?", "yes", CHOICES), FREE[1]]
    said = predict(system, WRITE, mixed)
    assert said[1] in CHOICES
    assert [said[0], said[2]] == predict(system, WRITE, FREE[:2])
