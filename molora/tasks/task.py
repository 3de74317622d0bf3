"""What a task is: a source of prompts with answers, split so that no concept is in both halves."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from molora.tasks.sources import Source

Family = Literal["generation", "classification", "extraction", "multiple choice", "coding"]
Metric = Literal["rouge_l", "accuracy", "macro_f1", "set_f1"]

T = TypeVar("T")


class Item(NamedTuple):
    prompt: str
    answer: str
    choices: tuple[str, ...] = ()
    """The answers to choose from, the right one among them; () where the answer is written freely."""
    concept: str = ""
    """What the item is about (a disease, a document): none is in both halves."""


class Split(NamedTuple):
    train: list[Item]
    test: list[Item]


@dataclass(frozen=True)
class Task:
    """One task as a small spec. What is said here is all that training, evaluation and the atlas know of it."""

    name: str
    family: Family
    metric: Metric
    """"rouge_l": mean ROUGE-L F1; "macro_f1": mean over labels; "set_f1": micro F1 of "; "-separated sets."""
    sources: tuple[Source, ...]
    build: Callable[..., Split]
    """One root for each source, in their order -> items, in an order that depends on nothing but the files."""
    human: bool
    """Whether people wrote its prompts, or the answers to be written, as prose; not so if both come from a table."""
    answer_tokens: int = 48
    """The longest answer that evaluation lets a model write."""
    share: float = 1.0
    """How many examples training gives it beside the others, where nobody says otherwise."""

    @property
    def source(self) -> str:
        return " and ".join(source.name for source in self.sources)

    @property
    def licence(self) -> str:
        return " and ".join(dict.fromkeys(source.licence for source in self.sources))

    def load(self, data: Path | None) -> Split:
        """Raises MoloraError that lists what is missing and how to get it."""
        roots: list[Traversable] = [source.root(data) for source in self.sources]
        return self.build(*roots)


def held_out(concept: str, percent: int = 5) -> bool:
    """Whether a concept (a disease, say) belongs to the test half; spelling in capitals makes no difference."""
    return _number(" ".join(concept.lower().split())) % 100 < percent


def split_by_concept(items: Sequence[Item], percent: int = 5) -> Split:
    """Each concept falls to one half by its name alone, so that other items make no difference."""
    split = Split([], [])
    for item in items:
        (split.test if held_out(item.concept, percent) else split.train).append(item)
    return split


def rng_of(key: str) -> random.Random:
    """Randomness that belongs to one item, whatever the others are."""
    return random.Random(_number(key))


def shuffled(options: Sequence[T], key: str) -> list[T]:
    """The options in an order that depends on `key` alone."""
    return rng_of(key).sample(list(options), len(options))


def lettered(question: str, choices: Sequence[str]) -> str:
    """A multiple-choice prompt: the question and its options, one a line. The answer is an option's own words."""
    return "\n".join([question, "Options:", *(f"- {choice}" for choice in choices)])


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
