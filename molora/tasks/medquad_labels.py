"""MedQuAD asked the other way round: the type of a question, the type of a passage, the disease in a passage."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from importlib.resources.abc import Traversable

from molora.tasks.medquad import SOURCE, TYPES, Pair, read_pairs
from molora.tasks.medquad_text import shorten
from molora.tasks.overlap import without_overlaps
from molora.tasks.task import Item, Split, Task

_PASSAGE_CHARACTERS = 500


def _question_type(pair: Pair) -> Item:
    return _choose(pair, pair.item.prompt, "What does this question ask for")


def _passage_type(pair: Pair) -> Item:
    return _choose(pair, shorten(pair.item.answer, _PASSAGE_CHARACTERS), f"What does this text tell about {pair.topic}")


def _choose(pair: Pair, text: str, ask: str) -> Item:
    prompt = f"{text}\n\n{ask}: {', '.join(TYPES[:-1])} or {TYPES[-1]}?"
    return Item(prompt, pair.type, TYPES, pair.item.concept)


def _passage_disease(pair: Pair) -> Item | None:
    """Only where the text has the name that its page goes by; the answer is as the text writes it."""
    text = shorten(pair.item.answer, _PASSAGE_CHARACTERS)
    name = re.search(rf"\b{re.escape(pair.topic)}(?!\w)", text, re.IGNORECASE)
    if not name:
        return None
    ask = "Which disease or topic is this text about? Answer with its name alone, as the text writes it."
    return Item(f"{ask}\n\n{text}", name.group(), concept=pair.item.concept)


def _builder(make: Callable[[Pair], Item | None]) -> Callable[[Traversable], Split]:
    def build(root: Traversable) -> Split:
        halves = ([item for pair in half if pair.type in TYPES and (item := make(pair))] for half in read_pairs(root))
        return without_overlaps(Split(*map(_settled, halves)))

    return build


def _settled(items: Iterable[Item]) -> list[Item]:
    """Each prompt once; none that has two answers."""
    having: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        having[item.prompt].append(item)
    return [same[0] for same in having.values() if len({item.answer for item in same}) == 1]


TASKS = (
    Task(
        name="question_type",
        family="classification",
        metric="macro_f1",
        sources=(SOURCE,),
        build=_builder(_question_type),
        human=False,  # the sites' questions mostly follow a pattern for each type
        answer_tokens=8,
    ),
    Task(
        name="passage_type",
        family="classification",
        metric="macro_f1",
        sources=(SOURCE,),
        build=_builder(_passage_type),
        human=True,
        answer_tokens=8,
    ),
    Task(
        name="passage_disease",
        family="extraction",
        metric="set_f1",
        sources=(SOURCE,),
        build=_builder(_passage_disease),
        human=True,
    ),
)
