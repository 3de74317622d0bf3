"""MedQuAD: questions that people ask of the NIH's health sites, with the sites' answers; a task for each type.

A disease is in one half only, whatever its names on the sites, and training holds no near-copy of a test answer.
"""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from functools import lru_cache, partial
from importlib.resources.abc import Traversable
from io import BytesIO
from typing import NamedTuple
from xml.etree import ElementTree

from molora.tasks.disease_names import one_disease
from molora.tasks.medquad_text import plain_answer, plain_question, plain_topic
from molora.tasks.overlap import kept, without_overlaps
from molora.tasks.sources import Folder
from molora.tasks.task import Item, Split, Task, held_out

TYPES = (
    "causes",
    "considerations",
    "exams and tests",
    "frequency",
    "genetic changes",
    "information",
    "inheritance",
    "outlook",
    "prevention",
    "research",
    "susceptibility",
    "symptoms",
    "treatment",
)
"""The types with about 200 answered questions or more, by their names in the data."""

_TEST_PERCENT = 20
"""So many that the rarest type has some forty held-out items."""

_SHARE = 0.3
"""Thirteen types of one skill, with the longest texts of all: at full shares, two fifths of what training reads."""

_ARCHIVE = "medquad.tar.gz"


class Pair(NamedTuple):
    type: str
    topic: str
    """The disease (rarely another subject) by the name that its page gives it"""
    item: Item
    """The question, its answer, and the disease by one name for all pages"""


class Pairs(NamedTuple):
    train: list[Pair]
    test: list[Pair]


class _Page(NamedTuple):
    topic: str
    codes: tuple[str, ...]
    """UMLS concepts"""
    questions: list[tuple[str, str, str]]
    """(type, question, answer) as they stand there"""


def read_pairs(root: Traversable) -> Pairs:
    """All answered questions of any type, in the archive's order by name. Read once for all tasks."""
    return _read(root.joinpath(_ARCHIVE).read_bytes())


@lru_cache(maxsize=1)
def _read(archive: bytes) -> Pairs:
    pages = [page for page in _pages(archive) if page.topic]
    codes: dict[str, list[str]] = {}
    for page in pages:
        codes.setdefault(page.topic, []).extend(page.codes)
    concepts = one_disease(codes)
    found: dict[tuple[str, str, str], Pair] = {}  # the same question may be answered alike on two pages
    for page in pages:
        for kind, asked, answered in page.questions:
            if answer := plain_answer(answered):
                item = Item(plain_question(asked), answer, concept=concepts[page.topic])
                found.setdefault((kind, item.prompt, answer), Pair(kind, page.topic, item))
    pairs = Pairs([], [])
    for pair in found.values():
        (pairs.test if held_out(pair.item.concept, _TEST_PERCENT) else pairs.train).append(pair)
    clean = kept(Split([pair.item for pair in pairs.train], [pair.item for pair in pairs.test]))
    return Pairs([pairs.train[at] for at in clean], pairs.test)


def _pages(archive: bytes) -> Sequence[_Page]:
    pages = []
    with tarfile.open(fileobj=BytesIO(archive)) as files:
        for member in sorted((m for m in files if m.name.endswith(".xml")), key=lambda m: m.name):
            file = files.extractfile(member)
            assert file is not None  # an .xml member is a regular file
            page = ElementTree.fromstring(file.read())
            questions = [
                (asked.get("qtype", ""), asked.text or "", pair.findtext("Answer") or "")
                for pair in page.iter("QAPair")
                if (asked := pair.find("Question")) is not None
            ]
            codes = tuple(code.text for code in page.iter("CUI") if code.text)
            pages.append(_Page(plain_topic(page.findtext("Focus") or ""), codes, questions))
    return pages


def _build(root: Traversable, kind: str) -> Split:
    train, test = read_pairs(root)
    return without_overlaps(Split(*([pair.item for pair in half if pair.type == kind] for half in (train, test))))


SOURCE = Folder(
    name="MedQuAD",
    licence="CC BY 4.0",
    where="Get the GitHub repository abachaa/MedQuAD and pack its folders 1 to 9 as medquad/medquad.tar.gz.",
    folder="medquad",
    files=(_ARCHIVE,),
)

TASKS = tuple(
    Task(
        name=f"medquad_{kind.replace(' ', '_')}",
        family="generation",
        metric="rouge_l",
        sources=(SOURCE,),
        build=partial(_build, kind=kind),
        human=True,
        answer_tokens=128,
        share=_SHARE,
    )
    for kind in TYPES
)
