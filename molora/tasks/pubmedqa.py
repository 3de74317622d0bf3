"""PubMedQA: a question and the abstract that studies it -> yes, no or maybe by experts, and the authors' conclusion.

The official 500 test questions are the test half.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib.resources.abc import Traversable
from typing import Any

from molora.tasks.overlap import without_overlaps
from molora.tasks.sources import Folder
from molora.tasks.task import Item, Split, Task

_CHOICES = ("yes", "no", "maybe")

_CONTEXT_CHARACTERS = 600
"""The end of the abstract, where the results stand; its conclusion is no part of it."""
_CONCLUSION_CHARACTERS = 350
"""Longer conclusions are left out: a small model cannot write them."""

_ROWS, _TEST_IDS = "ori_pqal.json", "test_ground_truth.json"

_Row = dict[str, Any]


def _decision(key: str, row: _Row) -> Item:
    prompt = f"{_results(row)}\n\nQuestion: {row['QUESTION']}\nAnswer yes, no or maybe."
    return Item(prompt, row["final_decision"], _CHOICES, concept=key)


def _conclusion(key: str, row: _Row) -> Item | None:
    conclusion = " ".join(row["LONG_ANSWER"].split())
    if not conclusion or len(conclusion) > _CONCLUSION_CHARACTERS:
        return None
    prompt = f"{_results(row)}\n\nQuestion: {row['QUESTION']}\nWrite the conclusion of this study in a few sentences."
    return Item(prompt, conclusion, concept=key)


def _results(row: _Row) -> str:
    """The abstract's last whole sentences."""
    abstract = " ".join(" ".join(row["CONTEXTS"]).split())
    if len(abstract) <= _CONTEXT_CHARACTERS:
        return abstract
    end = abstract[-_CONTEXT_CHARACTERS:]
    first, *rest = re.split(r"(?<=[.?!]) (?=[A-Z])", end, maxsplit=1)
    return rest[0] if rest else first.partition(" ")[2]


def _builder(make: Callable[[str, _Row], Item | None]) -> Callable[[Traversable], Split]:
    def build(folder: Traversable) -> Split:
        test_ids = json.loads((folder / _TEST_IDS).read_text(encoding="utf-8"))
        split = Split([], [])
        for key, row in sorted(json.loads((folder / _ROWS).read_text(encoding="utf-8")).items()):
            if item := make(key, row):
                (split.test if key in test_ids else split.train).append(item)
        return without_overlaps(split)

    return build


_SOURCE = Folder(
    name="PubMedQA",
    licence="MIT",
    where="Get ori_pqal.json and test_ground_truth.json from the GitHub repository pubmedqa/pubmedqa, into pubmedqa/.",
    folder="pubmedqa",
    files=(_ROWS, _TEST_IDS),
)

TASKS = (
    Task(
        name="pubmedqa",
        family="classification",
        metric="accuracy",
        sources=(_SOURCE,),
        build=_builder(_decision),
        human=True,
        answer_tokens=4,
    ),
    Task(
        name="pubmedqa_conclusion",
        family="generation",
        metric="rouge_l",
        sources=(_SOURCE,),
        build=_builder(_conclusion),
        human=True,
        answer_tokens=128,
    ),
)
