from __future__ import annotations

from xml.sax.saxutils import escape

from tests.wheels import build, items_of, made_up

_PATH = "trytond/modules/health_genetics_uniprot/data/protein_diseases.xml"
_STEMS = made_up(60)


def _wheel(rows: list[tuple[str, str, str]]) -> dict[str, str]:
    records = "".join(
        f'<record model="gnuhealth.protein.disease" id="DI-{at:05}"><field name="disease_name">{escape(name)}</field>'
        f'<field name="acronym">{acronym}</field><field name="keywords"></field>'
        f'<field name="description">{escape(text)}</field></record>'
        for at, (name, acronym, text) in enumerate(rows)
    )
    return {_PATH: f'<?xml version="1.0" encoding="utf-8"?><tryton><data grouped="1">{records}</data></tryton>'}


def _rows() -> list[tuple[str, str, str]]:
    """Two types each of sixty diseases, told in words of their own."""
    rows = []
    for at, stem in enumerate(_STEMS):
        mode = ("autosomal dominant", "autosomal recessive", "X-linked")[at % 3]
        for number in (1, 2):
            signs = f"{stem}su, {stem}ti and {stem}na, which begin in the {number + at} year of life of most patients"
            text = f"An {mode} form of {stem}osis characterized by {signs}. Inheritance is {mode}. "
            text += f"{stem.upper()}{number} is rare."
            rows.append((f"{stem.title()}osis {number}, {mode}", f"{stem.upper()}{number}", text))
    return rows


def test_the_name_is_hidden_and_asked_for_among_four() -> None:
    split = build("uniprot_name", _wheel(_rows()))
    assert split.test
    for item in (*split.train, *split.test):
        text = item.prompt.partition("\nOptions:")[0].lower()
        assert item.answer.endswith("osis")
        assert item.answer.lower() not in text
        assert "___" in text
        assert len(item.choices) == 4
    assert "Which disease is this?" in split.train[0].prompt


def test_what_lists_its_findings_in_its_name_is_not_asked_for() -> None:
    rows = [*_rows(), ("Ataxia with seizures", "AS", "Unsteadiness of gait and fits " * 4)]
    assert "Ataxia with seizures" not in items_of(build("uniprot_name", _wheel(rows))).values()


def test_inheritance_is_asked_for_and_nowhere_told() -> None:
    items = items_of(build("uniprot_inheritance", _wheel(_rows())))
    assert set(items.values()) == {"autosomal dominant", "autosomal recessive", "X-linked"}
    stem = _STEMS[0].title()
    (prompt,) = [prompt for prompt in items if prompt.startswith(f"{stem}osis: A form") and "1 year" in prompt]
    told = prompt.replace("autosomal dominant, autosomal recessive or X-linked", "")
    assert not any(word in told for word in ("autosomal", "dominant", "recessive", "X-linked", "Inheritance", "An "))


def test_types_told_alike_but_inherited_otherwise_are_left_out() -> None:
    text = "form of shaking of the hands that begins late in life and slowly worsens over the years."
    twins = [
        ("Shaking 1", "S1", f"An autosomal dominant {text}"),
        ("Shaking 2", "S2", f"An autosomal recessive {text}"),
    ]
    assert not any(
        prompt.startswith("Shaking") for prompt in items_of(build("uniprot_inheritance", _wheel(_rows() + twins)))
    )
