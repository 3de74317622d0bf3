"""Medical tasks made from public files as their authors publish them: `python -m molora.tasks list`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tqdm.auto import tqdm

from molora.errors import MoloraError
from molora.tasks import (
    abbreviations,
    hpo,
    hpo_diagnosis,
    icd,
    labs,
    medicines,
    medquad,
    medquad_labels,
    mts_dialog,
    names,
    ncbi_disease,
    pubmedqa,
    triage,
    uniprot,
)
from molora.tasks.task import Item, Split, Task

_MODULES = (
    medquad, medquad_labels, pubmedqa, ncbi_disease, mts_dialog,
    uniprot, hpo, hpo_diagnosis, icd, names, abbreviations, medicines, labs, triage,
)  # fmt: skip
TASKS: dict[str, Task] = {task.name: task for module in _MODULES for task in module.TASKS}

__all__ = ["TASKS", "Built", "Item", "Split", "Task", "build", "known"]


class Built(NamedTuple):
    splits: dict[str, Split]
    """task -> its items"""
    missing: dict[str, str]
    """task -> what is missing of its sources, and how to get it"""


def known(names: Iterable[str]) -> list[Task]:
    """Raises MoloraError for a name that is no task's."""
    for name in names:
        if name not in TASKS:
            raise MoloraError(f"There is no task {name!r}; known are {', '.join(TASKS)}.")
    return [TASKS[name] for name in names]


def build(names: Iterable[str], data: Path | None) -> Built:
    """The items of each task whose sources are there. Raises MoloraError for an unknown name."""
    built = Built({}, {})
    for task in tqdm(known(list(names)), desc="Building tasks"):
        try:
            built.splits[task.name] = task.load(data)
        except MoloraError as error:
            built.missing[task.name] = str(error)
    return built
