"""MTS-Dialog: to which section of a clinical note does a doctor's conversation with a patient belong?"""

from __future__ import annotations

import csv
import io
from importlib.resources.abc import Traversable

from molora.tasks.sources import Folder
from molora.tasks.task import Item, Split, Task

_DIALOGUE_CHARACTERS = 600
_TRAIN, _TEST = "MTS-Dialog-TrainingSet.csv", "MTS-Dialog-ValidationSet.csv"


def _build(folder: Traversable) -> Split:
    return Split(_items(folder / _TRAIN), _items(folder / _TEST))


def _items(path: Traversable) -> list[Item]:
    with io.StringIO(path.read_bytes().decode("utf-8"), newline="") as file:
        rows = list(csv.DictReader(file))
    ask = "Which section of the clinical note does this dialogue belong to?"
    return [
        Item(f"{row['dialogue'].strip()[:_DIALOGUE_CHARACTERS]}\n\n{ask}", row["section_header"].strip())
        for row in rows
    ]


_SOURCE = Folder(
    name="MTS-Dialog",
    licence="CC BY 4.0",
    where="Get Main-Dataset/*.csv from the GitHub repository abachaa/MTS-Dialog, into mts-dialog/.",
    folder="mts-dialog",
    files=(_TRAIN, _TEST),
)

TASKS = (
    Task(
        name="mts_dialog",
        family="classification",
        metric="macro_f1",
        sources=(_SOURCE,),
        build=_build,
        human=True,
    ),
)
