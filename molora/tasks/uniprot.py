"""UniProt's genetic diseases: name the disease from its description, and say how it is inherited.

Curators wrote the prose. What would give the answer away is left out of it: the disease's name, the inheritance.
"""

from __future__ import annotations

import re
from importlib.resources.abc import Traversable
from typing import NamedTuple
from xml.etree import ElementTree

from molora.tasks.draw import options, thinned
from molora.tasks.near import families, words
from molora.tasks.prose import INHERITANCE, base_name, sentences, shorten
from molora.tasks.sources import Package
from molora.tasks.task import Item, Split, Task, lettered, rng_of, split_by_concept
from molora.wheels import Wheel

_FILE = "trytond/modules/health_genetics_uniprot/data/protein_diseases.xml"

_TEXT_CHARACTERS = 330
"""A description ends at the last whole sentence before this."""

_NAME_CHARACTERS = 60
_OF_ONE_FAMILY = 15
"""A family of numbered types gives no more items than this, or a few families would fill the task."""

_POOL = 40
"""Distractors are the most similar ones among this many other diseases: plausible, seldom also right."""

_MODES = ("autosomal dominant", "autosomal recessive", "X-linked")
_LEADS = re.compile(rf"\b(an?) (?:rare,? )?{INHERITANCE},? ", re.IGNORECASE)
_AN = re.compile(r"\b([Aa])n (?=[^aeiouAEIOU])")
"""What is left of "An autosomal recessive disorder" would still tell."""
_TELLS = re.compile(r"autosomal|dominant|recessive|X-linked|X chromosome|mode of inheritance|inherit", re.IGNORECASE)


class _Disease(NamedTuple):
    name: str
    """Without number and inheritance"""
    acronym: str
    text: str
    family: str


def _diseases(root: Traversable) -> list[_Disease]:
    with root.joinpath(_FILE).open("rb") as file:
        records = [
            {str(field.get("name")): " ".join((field.text or "").split()) for field in record}
            for record in ElementTree.parse(file).iter("record")
        ]
    rows = [row for row in records if row.get("disease_name") and row.get("description")]
    names = [base_name(row["disease_name"]) for row in rows]
    concepts = families(names, [row["description"] for row in rows])
    return [
        _Disease(name, row.get("acronym", ""), row["description"].replace("- ", "-"), concept)
        for name, row, concept in zip(names, rows, concepts, strict=True)
    ]


def _name(root: Traversable) -> Split:
    # A name that lists the findings ("... with seizures") fits other diseases, too.
    diseases = [d for d in _diseases(root) if len(d.name) <= _NAME_CHARACTERS and " with " not in d.name]
    bags = [words(disease.text) for disease in diseases]
    items, seen = [], set()
    for disease, bag in zip(diseases, bags, strict=True):
        text = shorten(_mask(disease), _TEXT_CHARACTERS)
        if (disease.name, text) in seen or len(text) < 80 or text.count("___") > 4:
            continue
        seen.add((disease.name, text))
        drawn = rng_of(f"pool {disease.name} {text}").sample(range(len(diseases)), min(_POOL, len(diseases)))
        own = words(disease.name)
        # A name that shares two words with the right one may be right as well, once those are hidden.
        others = [
            at for at in drawn if diseases[at].family != disease.family and len(own & words(diseases[at].name)) < 2
        ]
        others.sort(key=lambda at: -len(bag & bags[at]) / len(bag | bags[at]))
        near = list(dict.fromkeys(diseases[at].name for at in others))[:3]
        choices = options(disease.name, near, text)
        ask = f'{text}\nWhich disease is this? ("___" hides its name.)'
        items.append(Item(lettered(ask, choices), disease.name, choices, disease.family))
    return split_by_concept(thinned(items, _OF_ONE_FAMILY), 8)


def _mask(disease: _Disease) -> str:
    """The description with each word of the name, and the acronym, replaced by "___"."""
    stems = sorted({word[:6] for word in words(disease.name) if len(word) > 3})
    hidden = [rf"\b{re.escape(stem)}\w*" for stem in stems]
    if disease.acronym:
        hidden.append(rf"\b{re.escape(disease.acronym.rstrip('0123456789'))}\w*")
    if not hidden:
        return disease.text
    text = re.sub("|".join(hidden), "___", disease.text, flags=re.IGNORECASE)
    return re.sub(r"___(?:[ -]+(?:of |and )?___)+", "___", text)


def _inheritance(root: Traversable) -> Split:
    items: dict[str, Item] = {}
    doubtful = set()
    ask = "Which inheritance is most likely: autosomal dominant, autosomal recessive or X-linked?"
    for disease in _diseases(root):
        modes = [mode for mode in _MODES if mode.lower() in disease.text.lower()]
        text = _AN.sub(r"\1 ", _LEADS.sub(r"\1 ", disease.text))
        text = " ".join(part for part in sentences(text) if not _TELLS.search(part))
        text = shorten(text, _TEXT_CHARACTERS)
        if len(modes) != 1 or len(text) < 60 or _TELLS.search(disease.name):
            continue
        item = Item(f"{disease.name}: {text}\n{ask}", modes[0], _MODES, disease.family)
        if items.setdefault(text, item).answer != item.answer:
            doubtful.add(text)  # types of one disease that differ in nothing else
    certain = [item for text, item in items.items() if text not in doubtful]
    return split_by_concept(thinned(certain, _OF_ONE_FAMILY), 10)


_SOURCE = Package(
    name="UniProt",
    licence="CC BY 4.0",
    wheel=Wheel(
        requirement="gnuhealth-genetics-uniprot==5.0.4",
        file="gnuhealth_genetics_uniprot-5.0.4-py3-none-any.whl",
        sha256="07a93baa62f608c36d5b88ef798316acdd70d297dca9cf9210dd991411b41b52",
        holds="UniProt's genetic diseases",
    ),
)

TASKS = (
    Task(
        name="uniprot_name",
        family="multiple choice",
        metric="accuracy",
        sources=(_SOURCE,),
        build=_name,
        human=True,
    ),
    Task(
        name="uniprot_inheritance",
        family="classification",
        metric="macro_f1",
        sources=(_SOURCE,),
        build=_inheritance,
        human=True,
    ),
)
