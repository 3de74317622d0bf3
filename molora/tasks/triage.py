"""Triage: which specialty should see a patient with these symptoms? From a synthetic table of 158 diseases."""

from __future__ import annotations

import ast
from importlib.resources.abc import Traversable
from typing import Any

from molora.errors import MoloraError
from molora.tasks.draw import options
from molora.tasks.near import families, plain
from molora.tasks.sources import Package
from molora.tasks.task import Item, Split, Task, lettered, shuffled, split_by_concept
from molora.wheels import Wheel

_FILE = "faker_healthcare/disease_correlations.py"
_TABLE = "DISEASE_CORRELATIONS"
_VISITS = 4
"""Patients of one disease, each with other symptoms of it"""
_SYMPTOMS = 3
_GENERALISTS = {"Internal Medicine", "Pediatrics", "Critical Care", "Pain Medicine"}
"""Never a wrong answer: they could see any of the patients."""


def _build(root: Traversable) -> Split:
    table = _table(root.joinpath(_FILE).read_text(encoding="utf-8"))
    specialties = list(dict.fromkeys(row["medical_specialty"] for row in table.values()))
    by_disease = {name: {symptom.lower() for symptom in row["symptoms"]} for name, row in table.items()}
    concepts = families(list(table), ["; ".join(row["symptoms"]) for row in table.values()], least=0.6)
    items = []
    seen = set()  # also those of other diseases: a test patient has no double in training
    for (name, row), concept in zip(table.items(), concepts, strict=True):
        answer = row["medical_specialty"]
        for visit in range(_VISITS):
            told = [symptom.lower() for symptom in shuffled(row["symptoms"], f"{name} {visit}")[:_SYMPTOMS]]
            # a specialty is no wrong answer if it treats another disease with all of these symptoms
            right = {table[other]["medical_specialty"] for other, known in by_disease.items() if known.issuperset(told)}
            right |= _GENERALISTS
            if len(told) < _SYMPTOMS or plain(" ".join(told)) in seen:
                continue
            seen.add(plain(" ".join(told)))
            choices = options(answer, [other for other in specialties if other not in right], f"{name} {visit}")
            prompt = f"A patient complains of {told[0]}, {told[1]} and {told[2]}. Which specialty should see them?"
            items.append(Item(lettered(prompt, choices), answer, choices, concept))
    return split_by_concept(items, 25)


def _table(code: str) -> dict[str, dict[str, Any]]:
    """The table as its literal stands in the module; nothing of it is run."""
    for node in ast.parse(code).body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as literal) if name == _TABLE:
                return dict(ast.literal_eval(literal))
    raise MoloraError(f"{_FILE} has no table {_TABLE}; it is not the file this task was written for.")


_SOURCE = Package(
    name="Faker healthcare (synthetic)",
    licence="MIT",
    wheel=Wheel(
        requirement="faker-healthcare-provider==2.5.0",
        file="faker_healthcare_provider-2.5.0-py3-none-any.whl",
        sha256="5439d7b660798742dba4974546abc182735528aa890afcf145339c6c0af3b99a",
        holds="a synthetic table of diseases and symptoms",
    ),
)

TASKS = (
    Task(
        name="triage",
        family="classification",
        metric="accuracy",
        sources=(_SOURCE,),
        build=_build,
        human=False,
        answer_tokens=12,
    ),
)
