"""Laboratory values: is a value low, normal or high? From this project's own table of common adult reference ranges.

Laboratories differ; the range is therefore part of every question, and the task is to read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple

from molora.tasks.near import families
from molora.tasks.task import Item, Split, Task, rng_of, split_by_concept

_FLAGS = ("low", "normal", "high")
_OF_EACH_FLAG = 8


class _Range(NamedTuple):
    analyte: str
    low: float
    high: float
    unit: str
    decimals: int


_RANGES = (
    _Range("sodium", 135, 145, "mmol/L", 0),
    _Range("potassium", 3.5, 5.0, "mmol/L", 1),
    _Range("chloride", 98, 107, "mmol/L", 0),
    _Range("bicarbonate", 22, 29, "mmol/L", 0),
    _Range("urea", 2.5, 7.8, "mmol/L", 1),
    _Range("creatinine", 60, 110, "umol/L", 0),
    _Range("fasting glucose", 3.9, 5.5, "mmol/L", 1),
    _Range("total calcium", 2.15, 2.55, "mmol/L", 2),
    _Range("ionised calcium", 1.15, 1.30, "mmol/L", 2),
    _Range("phosphate", 0.8, 1.5, "mmol/L", 2),
    _Range("magnesium", 0.70, 1.05, "mmol/L", 2),
    _Range("uric acid", 200, 430, "umol/L", 0),
    _Range("albumin", 35, 50, "g/L", 0),
    _Range("total protein", 60, 80, "g/L", 0),
    _Range("total bilirubin", 3, 21, "umol/L", 0),
    _Range("alanine aminotransferase (ALT)", 7, 45, "U/L", 0),
    _Range("aspartate aminotransferase (AST)", 8, 40, "U/L", 0),
    _Range("alkaline phosphatase", 40, 130, "U/L", 0),
    _Range("gamma-glutamyl transferase (GGT)", 8, 60, "U/L", 0),
    _Range("lactate dehydrogenase (LDH)", 125, 220, "U/L", 0),
    _Range("amylase", 30, 110, "U/L", 0),
    _Range("lipase", 13, 60, "U/L", 0),
    _Range("creatine kinase", 30, 200, "U/L", 0),
    _Range("lactate", 0.5, 2.0, "mmol/L", 1),
    _Range("ammonia", 15, 45, "umol/L", 0),
    _Range("serum osmolality", 275, 295, "mOsm/kg", 0),
    _Range("haemoglobin", 12.0, 16.5, "g/dL", 1),
    _Range("haematocrit", 36, 49, "%", 0),
    _Range("red cell count", 4.0, 5.6, "million per uL", 1),
    _Range("mean corpuscular volume (MCV)", 80, 98, "fL", 0),
    _Range("white cell count", 4.0, 11.0, "thousand per uL", 1),
    _Range("neutrophil count", 1.8, 7.5, "thousand per uL", 1),
    _Range("lymphocyte count", 1.0, 4.0, "thousand per uL", 1),
    _Range("platelet count", 150, 400, "thousand per uL", 0),
    _Range("reticulocytes", 0.5, 2.5, "%", 1),
    _Range("ferritin", 20, 300, "ug/L", 0),
    _Range("serum iron", 10, 30, "umol/L", 0),
    _Range("transferrin saturation", 20, 45, "%", 0),
    _Range("vitamin B12", 150, 650, "pmol/L", 0),
    _Range("serum folate", 7, 40, "nmol/L", 0),
    _Range("25-hydroxyvitamin D", 50, 125, "nmol/L", 0),
    _Range("prothrombin time", 11.0, 13.5, "s", 1),
    _Range("activated partial thromboplastin time (aPTT)", 25, 35, "s", 0),
    _Range("fibrinogen", 2.0, 4.0, "g/L", 1),
    _Range("thyroid-stimulating hormone (TSH)", 0.4, 4.0, "mU/L", 1),
    _Range("free thyroxine (free T4)", 10, 22, "pmol/L", 0),
    _Range("free triiodothyronine (free T3)", 3.5, 6.5, "pmol/L", 1),
    _Range("morning cortisol", 140, 690, "nmol/L", 0),
    _Range("parathyroid hormone", 1.6, 6.9, "pmol/L", 1),
    _Range("prolactin", 100, 500, "mU/L", 0),
    _Range("complement C3", 0.9, 1.8, "g/L", 1),
    _Range("complement C4", 0.1, 0.4, "g/L", 2),
    _Range("immunoglobulin G", 7.0, 16.0, "g/L", 1),
    _Range("immunoglobulin A", 0.7, 4.0, "g/L", 1),
    _Range("immunoglobulin M", 0.4, 2.3, "g/L", 1),
    _Range("caeruloplasmin", 0.20, 0.60, "g/L", 2),
    _Range("arterial pH", 7.35, 7.45, "", 2),
    _Range("arterial carbon dioxide tension", 35, 45, "mmHg", 0),
    _Range("arterial oxygen tension", 80, 100, "mmHg", 0),
    _Range("anion gap", 8, 16, "mmol/L", 0),
)
"""Common ranges for adults of both sexes, in the units that most of the world reports"""


def _build(_: Traversable) -> Split:
    items = []
    concepts = families([row.analyte for row in _RANGES])  # the immunoglobulins are one
    for row, concept in zip(_RANGES, concepts, strict=True):
        seen = set()
        for flag in _FLAGS:
            for number in range(_OF_EACH_FLAG):
                value = _value(row, flag, f"{row.analyte} {flag} {number}")
                if value in seen:
                    continue
                seen.add(value)
                low, high = (f"{bound:.{row.decimals}f}" for bound in (row.low, row.high))
                unit = f" {row.unit}" if row.unit else ""
                prompt = (
                    f"{row.analyte[0].upper()}{row.analyte[1:]}: {value}{unit} (reference {low} to {high}).\n"
                    "Is the value low, normal or high?"
                )
                items.append(Item(prompt, flag, _FLAGS, concept))
    return split_by_concept(items, 20)


def _value(row: _Range, flag: str, key: str) -> str:
    """A value a step or more beyond a bound, and at most half the bound or the width of the range; or one within."""
    rng = rng_of(key)
    step = 10.0**-row.decimals
    reach = max(step, min(row.high - row.low, row.low / 2))
    if flag == "low":
        value = row.low - max(step, rng.random() * reach)
    elif flag == "high":
        value = row.high + max(step, rng.random() * (row.high - row.low))
    else:
        value = row.low + rng.random() * (row.high - row.low)
    return f"{value:.{row.decimals}f}"


@dataclass(frozen=True)
class _OwnTable:
    """A source that comes with the program."""

    name: str = "this project's table of adult reference ranges"
    licence: str = "Apache-2.0"
    where: str = "It comes with the program."

    def root(self, data: Path | None) -> Traversable:
        return files(__package__)


TASKS = (
    Task(
        name="lab_flag",
        family="classification",
        metric="accuracy",
        sources=(_OwnTable(),),
        build=_build,
        human=False,
        answer_tokens=6,
    ),
)
