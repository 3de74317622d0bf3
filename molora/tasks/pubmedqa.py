"""PubMedQA: does the abstract answer the question with yes, no or maybe? Labelled by experts."""

from __future__ import annotations

import json
from pathlib import Path

from molora.tasks.task import Item, Split, Task

_CONTEXT_CHARACTERS = 700
"""The end of the abstract, where the results stand; its conclusion is no part of it."""


def _build(data: Path) -> Split:
    folder = data / "pubmedqa"
    test_ids = json.loads((folder / "test_ground_truth.json").read_text(encoding="utf-8"))
    split = Split([], [])
    for key, row in sorted(json.loads((folder / "ori_pqal.json").read_text(encoding="utf-8")).items()):
        abstract = " ".join(row["CONTEXTS"])[-_CONTEXT_CHARACTERS:].partition(" ")[2]
        prompt = f"{abstract}\n\nQuestion: {row['QUESTION']}\nAnswer yes, no or maybe."
        (split.test if key in test_ids else split.train).append(Item(prompt, row["final_decision"]))
    return split


TASK = Task(
    name="pubmedqa",
    family="classification",
    source="the GitHub repository pubmedqa/pubmedqa (ori_pqal.json and test_ground_truth.json, below pubmedqa/)",
    licence="MIT",
    files=("pubmedqa/ori_pqal.json", "pubmedqa/test_ground_truth.json"),
    build=_build,
)
