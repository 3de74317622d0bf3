"""NCBI disease corpus: the diseases that a sentence of a PubMed abstract names, and whether it names any.

The official test set is the test half; training and development sets are for training.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.resources.abc import Traversable
from typing import NamedTuple

from molora.tasks.overlap import without_overlaps
from molora.tasks.sources import Folder
from molora.tasks.task import Item, Split, Task

_LIST = (
    "List the diseases named in this sentence, in its own words and order, each once, with semicolons between them. "
    'If it names none, answer "none".'
)
_WHETHER = "Does this sentence name a disease? Answer yes or no."

_LEAST_WORDS = 4
"""Shorter ones ("2%.") are left by the splitting of abstracts into sentences."""

_TRAIN, _DEVEL, _TEST = "train.tsv", "devel.tsv", "test.tsv"


class _Sentence(NamedTuple):
    text: str
    diseases: list[str]

    @property
    def whole(self) -> bool:
        return len(self.text.split()) >= _LEAST_WORDS


def _mentions(folder: Traversable) -> Split:
    """The official test set whole."""
    return _split(folder, lambda test, sentence: test or sentence.whole, _list)


def _names_disease(folder: Traversable) -> Split:
    return _split(folder, lambda _test, sentence: sentence.whole, _whether)


def _list(sentence: _Sentence) -> Item:
    return Item(f"{_LIST}\n\n{sentence.text}", "; ".join(sentence.diseases) or "none", concept=sentence.text)


def _whether(sentence: _Sentence) -> Item:
    answer = "yes" if sentence.diseases else "no"
    return Item(f"{_WHETHER}\n\n{sentence.text}", answer, ("yes", "no"), concept=sentence.text)


def _split(folder: Traversable, wanted: Callable[[bool, _Sentence], bool], make: Callable[[_Sentence], Item]) -> Split:
    train = [*_sentences(folder / _TRAIN), *_sentences(folder / _DEVEL)]
    return without_overlaps(
        Split(
            [make(sentence) for sentence in train if wanted(False, sentence)],
            [make(sentence) for sentence in _sentences(folder / _TEST) if wanted(True, sentence)],
        )
    )


def _sentences(path: Traversable) -> list[_Sentence]:
    sentences = []
    for block in path.read_text(encoding="utf-8").strip().split("\n\n"):
        rows = [line.split("\t") for line in block.splitlines()]
        mentions: list[list[str]] = []
        for token, tag in rows:
            if tag.startswith("B"):
                mentions.append([token])
            elif tag.startswith("I") and mentions:
                mentions[-1].append(token)
        names = list(dict.fromkeys(_join(mention) for mention in mentions))
        sentences.append(_Sentence(_join([token for token, _ in rows]), names))
    return sentences


def _join(tokens: list[str]) -> str:
    """Tokens as prose: no space before punctuation, none around hyphens and slashes."""
    text = re.sub(r" ([.,;:%)\]])", r"\1", " ".join(tokens))
    return re.sub(r"([(\[]) ", r"\1", re.sub(r" ([-/]) ", r"\1", text))


_SOURCE = Folder(
    name="NCBI disease corpus",
    licence="US government work, public domain",
    where="Get conll/{train,devel,test}.tsv from the GitHub repository spyysalo/ncbi-disease, into ncbi-disease/.",
    folder="ncbi-disease",
    files=(_TRAIN, _DEVEL, _TEST),
)

TASKS = (
    Task(
        name="ncbi_disease",
        family="extraction",
        metric="set_f1",
        sources=(_SOURCE,),
        build=_mentions,
        human=True,
    ),
    Task(
        name="ncbi_names_disease",
        family="classification",
        metric="macro_f1",
        sources=(_SOURCE,),
        build=_names_disease,
        human=True,
        answer_tokens=4,
    ),
)
