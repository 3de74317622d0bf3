from __future__ import annotations

import pytest

from molora.tasks.disease_names import base_name, one_disease


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("Usher syndrome, type 1B", "usher syndrome"),
        ("Noonan syndrome 3", "noonan syndrome"),
        ("Cockayne syndrome type III", "cockayne syndrome"),
        ("Mucopolysaccharidosis IV A", "mucopolysaccharidosis"),
        ("Childhood Ovarian Cancer", "ovarian cancer"),
        ("Kaposi's Sarcoma", "kaposi sarcoma"),
        ("Gastrointestinal Stromal Tumors (GIST)", "gastrointestinal stromal tumor"),
        ("Diabetes mellitus", "diabete mellitus"),
        ("(?)", "(?)"),
    ],
)
def test_base_names_lose_types_spelling_and_brackets(name: str, base: str) -> None:
    assert base_name(name) == base


def test_names_of_one_concept_are_one_disease_and_shared_features_join_none() -> None:
    assert one_disease(
        {
            "Behcet's Disease": ["C1", "C9"],
            "Behcet syndrome": ["C1", "C2"],
            "Silk road illness": ["C2", "C9"],
            "Gout type 1": ["C9"],
            "Gout": [],
        }
    ) == {
        "Behcet's Disease": "behcet disease",
        "Behcet syndrome": "behcet disease",
        "Silk road illness": "behcet disease",
        "Gout type 1": "gout",
        "Gout": "gout",
    }
