"""MedQuAD: questions that people ask of the NIH's health sites, with the sites' answers."""

from __future__ import annotations

import re
import tarfile
from importlib.resources.abc import Traversable
from xml.etree import ElementTree

from molora.tasks.sources import Folder
from molora.tasks.task import Item, Split, Task, held_out

_ARCHIVE = "medquad.tar.gz"

_ANSWER_CHARACTERS = 700
"""Longer answers end at their last whole sentence before this, so that a small model learns to finish."""

_LIST_ITEMS = 8
"""Longer lists end here: a small model that has started one goes on for as long as it may."""

_ELSEWHERE = ("Human Phenotype Ontology", "These resources address")
"""Answers that point to a table or to other pages instead of answering. They are held out, never trained on: asked for
symptoms, a small model would say nothing else."""

_KEY_POINTS = re.compile(r"^\s*(?:Key Points\s*-[^\n]*\n|Summary\s*:)")
"""What some sites put in front of an answer: a list of its points, all on one line, or a heading."""
_ECHO = re.compile(r"^[^.?!\n]{3,150}\?\s+")
"""The question, said again."""
_BULLET = re.compile(r"(?:^|\s{2,}|(?<=[:.]) )-\s+")
_ENDS = re.compile(r"[.!?](?=\s)|(?=\n)")
"""Where an answer may stop: after a sentence, or at the end of a line."""


def _build(root: Traversable) -> Split:
    split = Split([], [])
    with root.joinpath(_ARCHIVE).open("rb") as packed, tarfile.open(fileobj=packed) as archive:
        members = sorted((m for m in archive if m.name.endswith(".xml")), key=lambda m: m.name)
        for member in members:
            file = archive.extractfile(member)
            assert file is not None  # an .xml member is a regular file
            document = ElementTree.fromstring(file.read())
            focus = document.findtext("Focus") or member.name
            test = held_out(focus)
            for pair in document.iter("QAPair"):
                question = " ".join((pair.findtext("Question") or "").split())
                answer = _shorten(_tidy(pair.findtext("Answer") or ""))
                if not question or not answer:
                    continue
                if not test and any(phrase in answer for phrase in _ELSEWHERE):
                    continue
                (split.test if test else split.train).append(Item(_plain(question), answer, concept=focus))
    return split


def _plain(question: str) -> str:
    return question.replace(" ?", "?").replace("??", "?").replace("What is (are) ", "What is ")


def _tidy(answer: str) -> str:
    """Each item of a list on a line of its own; a list that comes again as prose is left out, with what follows."""
    lead, *items = _BULLET.split(_ECHO.sub("", _KEY_POINTS.sub("", answer)))
    lines = [" ".join(lead.split())]
    for item in filter(None, map(str.strip, items)):
        first, *after = re.split(r"\s{2,}", item, maxsplit=1)  # prose goes on after a wider gap
        lines += [f"- {' '.join(first.split())}", *(" ".join(part.split()) for part in after)]
    text = "\n".join(lines).strip()
    if len(lines) > 1 and len(item := lines[1][2:]) > 20 and (again := text.find(item, text.find(item) + 1)) > 0:
        text = text[:again].rstrip(" \n-")
    return text


def _shorten(answer: str) -> str:
    answer = "\n- ".join(answer.split("\n- ")[: _LIST_ITEMS + 1])
    if len(answer) <= _ANSWER_CHARACTERS:
        return answer
    ends = [match.end() for match in _ENDS.finditer(answer, 0, _ANSWER_CHARACTERS)]
    return answer[: ends[-1]] if ends else answer[:_ANSWER_CHARACTERS].rsplit(" ", 1)[0]


_SOURCE = Folder(
    name="MedQuAD",
    licence="CC BY 4.0",
    where="Get the GitHub repository abachaa/MedQuAD and pack its folders 1 to 9 as medquad/medquad.tar.gz.",
    folder="medquad",
    files=(_ARCHIVE,),
)

TASKS = (
    Task(
        name="medquad",
        family="generation",
        metric="rouge_l",
        sources=(_SOURCE,),
        build=_build,
        human=True,
        answer_tokens=160,
    ),
)
