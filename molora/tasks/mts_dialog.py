"""MTS-Dialog: to which section of a clinical note does a doctor's conversation with a patient belong?"""

from __future__ import annotations

import csv
from pathlib import Path

from molora.tasks.task import Item, Split, Task

_DIALOGUE_CHARACTERS = 600
_TRAIN, _TEST = "MTS-Dialog-TrainingSet.csv", "MTS-Dialog-ValidationSet.csv"


def _build(data: Path) -> Split:
    return Split(_items(data / "mts-dialog" / _TRAIN), _items(data / "mts-dialog" / _TEST))


def _items(path: Path) -> list[Item]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    ask = "Which section of the clinical note does this dialogue belong to?"
    return [
        Item(f"{row['dialogue'].strip()[:_DIALOGUE_CHARACTERS]}\n\n{ask}", row["section_header"].strip())
        for row in rows
    ]


TASK = Task(
    name="mts_dialog",
    family="classification",
    source="the GitHub repository abachaa/MTS-Dialog (Main-Dataset/*.csv, below mts-dialog/)",
    licence="CC BY 4.0",
    files=(f"mts-dialog/{_TRAIN}", f"mts-dialog/{_TEST}"),
    build=_build,
)
