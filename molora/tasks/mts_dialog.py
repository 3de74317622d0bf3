"""MTS-Dialog: a doctor's conversation with a patient -> the section of the clinical note it belongs to, and the note.

The official test set 1 of MEDIQA-Chat 2023 is the test half; training and validation sets are for training.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from importlib.resources.abc import Traversable

from molora.tasks.overlap import without_overlaps
from molora.tasks.sources import Folder
from molora.tasks.task import Item, Split, Task

_SECTIONS = {
    "FAM/SOCHX": "family and social history",
    "GENHX": "history of present illness",
    "PASTMEDICALHX": "past medical history",
    "CC": "chief complaint",
    "PASTSURGICAL": "past surgical history",
    "ALLERGY": "allergies",
    "ROS": "review of systems",
    "MEDICATIONS": "medications",
    "ASSESSMENT": "assessment",
    "EXAM": "examination",
    "DIAGNOSIS": "diagnosis",
    "DISPOSITION": "disposition",
    "PLAN": "plan",
    "EDCOURSE": "emergency department course",
    "IMMUNIZATIONS": "immunizations",
    "IMAGING": "imaging",
    "GYNHX": "gynecologic history",
    "PROCEDURES": "procedures",
    "OTHER_HISTORY": "other history",
    "LABS": "laboratory results",
}
"""The headers in words; the most frequent comes first."""
_CHOICES = tuple(_SECTIONS.values())

_CUT_CHARACTERS = 560
"""Enough of a dialogue to tell its section."""
_WHOLE_CHARACTERS, _NOTE_CHARACTERS = 700, 400
"""For the note, only dialogues that a small model can read whole, with notes that it can write."""

_TRAIN, _VALIDATION = "MTS-Dialog-TrainingSet.csv", "MTS-Dialog-ValidationSet.csv"
_TEST = "MTS-Dialog-TestSet-1-MEDIQA-Chat-2023.csv"

_Row = dict[str, str]


def _section(row: _Row) -> Item:
    dialogue = row["dialogue"]
    if len(dialogue) > _CUT_CHARACTERS:
        dialogue = dialogue[:_CUT_CHARACTERS].rsplit(" ", 1)[0] + " ..."
    ask = f"Which section of the clinical note is this for: {', '.join(_CHOICES[:-1])} or {_CHOICES[-1]}?"
    return Item(f"{dialogue}\n\n{ask}", _SECTIONS[row["section_header"]], _CHOICES, row["ID"])


def _note(row: _Row) -> Item | None:
    dialogue, note, section = row["dialogue"], row["section_text"], _SECTIONS[row["section_header"]]
    if len(dialogue) > _WHOLE_CHARACTERS or not note or len(note) > _NOTE_CHARACTERS:
        return None
    return Item(f'{dialogue}\n\nWrite the section "{section}" of the clinical note.', note, concept=row["ID"])


def _builder(make: Callable[[_Row], Item | None]) -> Callable[[Traversable], Split]:
    def build(folder: Traversable) -> Split:
        train, test = [*_rows(folder / _TRAIN), *_rows(folder / _VALIDATION)], _rows(folder / _TEST)
        return without_overlaps(Split(*([item for row in half if (item := make(row))] for half in (train, test))))

    return build


def _rows(path: Traversable) -> list[_Row]:
    """Rows with one space for several and an ID that tells the file too."""
    with io.StringIO(path.read_bytes().decode("utf-8"), newline="") as file:
        return [
            {
                "ID": f"dialogue {row['ID']} of {path.name}",
                "section_header": row["section_header"].strip(),
                "section_text": " ".join(row["section_text"].split()),
                "dialogue": "\n".join(" ".join(turn.split()) for turn in row["dialogue"].strip().splitlines()),
            }
            for row in csv.DictReader(file)
        ]


_SOURCE = Folder(
    name="MTS-Dialog",
    licence="CC BY 4.0",
    where="Get Main-Dataset/*.csv from the GitHub repository abachaa/MTS-Dialog, into mts-dialog/.",
    folder="mts-dialog",
    files=(_TRAIN, _VALIDATION, _TEST),
)

TASKS = (
    Task(
        name="mts_section",
        family="classification",
        metric="macro_f1",
        sources=(_SOURCE,),
        build=_builder(_section),
        human=True,
        answer_tokens=8,
    ),
    Task(
        name="mts_note",
        family="generation",
        metric="rouge_l",
        sources=(_SOURCE,),
        build=_builder(_note),
        human=True,
        answer_tokens=128,
    ),
)
