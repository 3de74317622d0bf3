"""The WHO's list of essential medicines: to which group of medicines does a medicine belong?"""

from __future__ import annotations

import re
from collections import defaultdict
from importlib.resources.abc import Traversable
from xml.etree import ElementTree

from molora.tasks.draw import options
from molora.tasks.near import families, words
from molora.tasks.sources import Package
from molora.tasks.task import Item, Split, Task, lettered, split_by_concept
from molora.wheels import Wheel

_FOLDER = "trytond/modules/health_who_essential_medicines/data"
_ALL = "em"
"""The category above all sections"""
_FORM_CHARACTERS = 60

_NOT_TELLING = {
    "complementary", "specific", "non-specific", "oral", "parenteral", "miscellaneous", "for prophylaxis",
    "for treatment of acute attack",
}  # fmt: skip
_SECTIONS = ("DERMATOLOGICAL", "OPHTHALMOLOGICAL", "DIAGNOSTIC")
"""Sections of a place or a purpose; their parts have the names of other sections"""
_SAYS_LITTLE = words("medicines used other agents complementary specific affecting preparations treat treatment")


def _build(root: Traversable) -> Split:
    categories = {
        key: (fields["name"], fields.get("parent")) for key, fields in _records(root, "medicament_categories")
    }
    medicines = [fields for _, fields in _records(root, "WHO_list_of_essential_medicines")]
    asked: dict[tuple[str, str], str] = {}  # (medicine, group) -> the first form it has there
    of: dict[str, set[str]] = defaultdict(set)  # medicine -> all its groups
    places: dict[str, set[str]] = defaultdict(set)  # group -> the words of its place in the list
    for fields in medicines:
        name = " ".join(fields["active_component"].split())
        path = _path(categories, fields["category"])
        group = _group(path)
        of[name].add(group)
        places[group] |= words(" ".join(path)) - _SAYS_LITTLE
        asked.setdefault((name, group), _form(fields.get("notes", "")))
    concepts = families([re.sub(r"\(.*?\)", "", name) for name, _ in asked], least=0.5)
    items = []
    for ((name, group), form), concept in zip(asked.items(), concepts, strict=True):
        # one that shares a word with the right one, "anti-infective" say, could be right as well
        others = [other for other in places if other not in of[name] and not places[other] & places[group]]
        choices = options(group, others, f"{name} {group}")
        given = f"{name} ({form})" if form else name
        items.append(
            Item(lettered(f"To which group of medicines does {given} belong?", choices), group, choices, concept)
        )
    return split_by_concept(items, 20)


def _records(root: Traversable, file: str) -> list[tuple[str, dict[str, str]]]:
    with root.joinpath(f"{_FOLDER}/{file}.xml").open("rb") as opened:
        return [
            (
                str(record.get("id")),
                {str(field.get("name")): field.get("ref") or field.text or "" for field in record},
            )
            for record in ElementTree.parse(opened).iter("record")
        ]


def _path(categories: dict[str, tuple[str, str | None]], key: str | None) -> list[str]:
    """From the section down."""
    path: list[str] = []
    while key and key != _ALL:
        name, key = categories[key]
        path.insert(0, " ".join(name.split()))
    return path


def _group(path: list[str]) -> str:
    """The second level of the list, or its section where the second level does not say what a medicine is for."""
    telling = len(path) > 1 and path[1].lower() not in _NOT_TELLING and not path[0].startswith(_SECTIONS)
    group = path[telling]
    return group[0] + group[1:].lower() if group[:4].isupper() else group


def _form(notes: str) -> str:
    first = re.split(r"[\n*\[]", notes.replace("\u2010", "-").strip(), maxsplit=1)[0].strip(" .")
    form = first.partition(":")[0].strip()
    return form[0].lower() + form[1:] if 0 < len(form) <= _FORM_CHARACTERS else ""


_SOURCE = Package(
    name="WHO essential medicines",
    licence="GPL-3.0-or-later",
    wheel=Wheel(
        requirement="gnuhealth-who-essential-medicines==5.0.4",
        file="gnuhealth_who_essential_medicines-5.0.4-py3-none-any.whl",
        sha256="d6d8bbb1256c797ff03418eca3f7a4527345370815acc80e9a168aafd43947fe",
        holds="the WHO's list of essential medicines",
    ),
)

TASKS = (
    Task(
        name="drug_class",
        family="multiple choice",
        metric="accuracy",
        sources=(_SOURCE,),
        build=_build,
        human=False,
        answer_tokens=24,
    ),
)
