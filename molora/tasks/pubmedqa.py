"""PubMedQA: does the abstract answer the question with yes, no or maybe? Labelled by experts."""

from __future__ import annotations

import json
from importlib.resources.abc import Traversable

from molora.tasks.sources import Folder
from molora.tasks.task import Item, Split, Task

_CHOICES = ("yes", "no", "maybe")

_CONTEXT_CHARACTERS = 700
"""The end of the abstract, where the results stand; its conclusion is no part of it."""


def _build(folder: Traversable) -> Split:
    test_ids = json.loads((folder / "test_ground_truth.json").read_text(encoding="utf-8"))
    split = Split([], [])
    for key, row in sorted(json.loads((folder / "ori_pqal.json").read_text(encoding="utf-8")).items()):
        abstract = " ".join(row["CONTEXTS"])[-_CONTEXT_CHARACTERS:].partition(" ")[2]
        prompt = f"{abstract}\n\nQuestion: {row['QUESTION']}\nAnswer yes, no or maybe."
        half = split.test if key in test_ids else split.train
        half.append(Item(prompt, row["final_decision"], _CHOICES, concept=key))
    return split


_SOURCE = Folder(
    name="PubMedQA",
    licence="MIT",
    where="Get ori_pqal.json and test_ground_truth.json from the GitHub repository pubmedqa/pubmedqa, into pubmedqa/.",
    folder="pubmedqa",
    files=("ori_pqal.json", "test_ground_truth.json"),
)

TASKS = (
    Task(
        name="pubmedqa",
        family="classification",
        metric="accuracy",
        sources=(_SOURCE,),
        build=_build,
        human=True,
    ),
)
