"""MedQuAD: questions that people ask of the NIH's health sites, with the sites' answers."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path
from xml.etree import ElementTree

from molora.tasks.task import Item, Split, Task, held_out

_ANSWER_CHARACTERS = 700
"""Longer answers end at their last whole sentence before this, so that a small model learns to finish."""

_TABLE = "Human Phenotype Ontology"
_TABLES_KEPT = 4
"""Answers that introduce a table instead of answering: one in this many is kept for training."""


def _build(data: Path) -> Split:
    split = Split([], [])
    tables = 0
    with tarfile.open(data / "medquad/medquad.tar.gz") as archive:
        members = sorted((m for m in archive if m.name.endswith(".xml")), key=lambda m: m.name)
        for member in members:
            file = archive.extractfile(member)
            assert file is not None  # an .xml member is a regular file
            document = ElementTree.fromstring(file.read())
            test = held_out(document.findtext("Focus") or member.name)
            for pair in document.iter("QAPair"):
                question = " ".join((pair.findtext("Question") or "").split())
                answer = _shorten(" ".join((pair.findtext("Answer") or "").split()))
                if not question or not answer:
                    continue
                if _TABLE in answer and not test:
                    tables += 1
                    if tables % _TABLES_KEPT:
                        continue
                (split.test if test else split.train).append(Item(_plain(question), answer))
    return split


def _plain(question: str) -> str:
    return question.replace(" ?", "?").replace("What is (are) ", "What is ")


def _shorten(answer: str) -> str:
    answer = answer.removeprefix("Key Points - ")
    if len(answer) <= _ANSWER_CHARACTERS:
        return answer
    ends = [match.end(1) for match in re.finditer(r"([.!?])\s", answer[:_ANSWER_CHARACTERS])]
    return answer[: ends[-1]] if ends else answer[:_ANSWER_CHARACTERS].rsplit(" ", 1)[0]


TASK = Task(
    name="medquad",
    family="generation",
    source="the GitHub repository abachaa/MedQuAD (subsets 1 to 9, as medquad/medquad.tar.gz)",
    licence="CC BY 4.0",
    files=("medquad/medquad.tar.gz",),
    build=_build,
)
