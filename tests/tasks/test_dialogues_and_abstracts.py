from __future__ import annotations

import json
from pathlib import Path

from molora.tasks import TASKS
from molora.tasks.overlap import overlaps
from tests.sources import Token, make_mts_dialog, make_ncbi_disease, make_pubmedqa


def sentence(words: str, disease: str = "") -> list[Token]:
    """`disease` are the words that name one, each of them."""
    return [(word, "B-Disease" if word in disease.split() else "O") for word in words.split()]


HEREDITARY = [
    ("Hereditary", "B-Disease"), ("breast", "I-Disease"), ("cancer", "I-Disease"), ("and", "O"),
    ("ataxia", "B-Disease"), ("(", "O"), ("rare", "O"), (")", "O"), (",", "O"), ("ataxia", "B-Disease"), (".", "O"),
]  # fmt: skip


def test_pubmedqa_follows_the_official_split(tmp_path: Path) -> None:
    make_pubmedqa(tmp_path)
    split = TASKS["pubmedqa"].load(tmp_path)
    assert len(split.train) == len(split.test) == 6
    assert {item.answer for item in split.train} == {"yes", "no", "maybe"} == set(split.test[0].choices)
    assert {item.concept for item in split.test} == set("012345")
    item = split.test[0]
    assert item.prompt == (
        "First part of it. In the end they felt better.\n\nQuestion: Does remedy 0 help?\nAnswer yes, no or maybe."
    )


def test_pubmedqa_contexts_begin_with_a_sentence_and_long_conclusions_are_left_out(tmp_path: Path) -> None:
    make_pubmedqa(tmp_path, count=40)
    path = tmp_path / "pubmedqa/ori_pqal.json"
    rows = json.loads(path.read_text())
    rows["25"]["CONTEXTS"] = ["It was long ago. " * 50, "They felt better (p<.05)."]
    path.write_text(json.dumps(rows))
    split = TASKS["pubmedqa_conclusion"].load(tmp_path)
    assert [item.answer for item in split.test[:2]] == [
        "Remedy 0 helps some.",
        "Remedy 1 helps some. Remedy 1 helps some.",
    ]
    assert all(len(item.answer) <= 350 for item in (*split.train, *split.test))
    assert len(split.train) == 0, "conclusions of the later ones are too long"
    cut = next(item for item in TASKS["pubmedqa"].load(tmp_path).train if item.concept == "25")
    context, _, question = cut.prompt.partition("\n\n")
    assert context.startswith("It was long ago. It was")
    assert context.endswith("better (p<.05).")
    assert 500 < len(context) <= 600
    assert question.startswith("Question: Does remedy 25 help?")


def test_ncbi_disease_lists_mentions_once_in_order(tmp_path: Path) -> None:
    fragment, plain = sentence("2% ."), sentence("Nothing T - cell here at all .")
    make_ncbi_disease(tmp_path, {"train": [HEREDITARY, fragment], "devel": [plain], "test": [fragment]})
    split = TASKS["ncbi_disease"].load(tmp_path)
    assert [(item.prompt.partition("\n\n")[2], item.answer) for item in split.train] == [
        ("Hereditary breast cancer and ataxia (rare), ataxia.", "Hereditary breast cancer; ataxia"),
        ("Nothing T-cell here at all.", "none"),
    ]
    assert [item.concept for item in split.test] == ["2%."], "the official test set is kept whole"
    assert all("semicolons" in item.prompt and '"none"' in item.prompt for item in split.train)
    whether = TASKS["ncbi_names_disease"].load(tmp_path)
    assert [(item.answer, item.choices) for item in whether.train] == [("yes", ("yes", "no")), ("no", ("yes", "no"))]
    assert whether.test == [], "a fragment is no sentence"


def test_ncbi_training_has_no_sentence_of_the_test(tmp_path: Path) -> None:
    words = (
        "deficiency of the ninth component of human complement is the most common complement deficiency in this land"
    )
    near = sentence(f"{words} but very rare in most other countries", "deficiency")
    sets = {
        "train": [HEREDITARY, near],
        "devel": [sentence("We saw gout in them", "gout"), sentence("We saw none of it")],
    }
    make_ncbi_disease(tmp_path, sets | {"test": [HEREDITARY, sentence(words, "deficiency")]})
    for name in ("ncbi_disease", "ncbi_names_disease"):
        split = TASKS[name].load(tmp_path)
        assert [item.concept for item in split.train] == ["We saw gout in them", "We saw none of it"]
        assert len(split.test) == 2
        assert overlaps(split) == []


def test_mts_section_asks_with_words_and_cuts_long_dialogues(tmp_path: Path) -> None:
    make_mts_dialog(tmp_path, rows=[("GENHX", "It hurts.", "Doctor: What now? " + "Patient: It hurts. " * 60)])
    split = TASKS["mts_section"].load(tmp_path)
    assert len(split.train) == 24, "training and validation set, less what the test has too"
    item = split.train[0]
    assert item.prompt.startswith("Doctor: Any, a0?\nPatient: None.\n\nWhich section")
    assert item.answer == "allergies"
    long = split.test[0]
    dialogue, _, ask = long.prompt.partition("\n\n")
    assert long.answer == "history of present illness"
    assert len(dialogue) <= 564
    assert dialogue.endswith((" Patient: ...", " It ...", " hurts. ..."))
    assert all(choice in ask for choice in long.choices)


def test_mts_notes_are_short_and_their_dialogues_whole(tmp_path: Path) -> None:
    rows = [
        ("CC", "Pain.", "Patient: It hurts. " * 40),
        ("CC", "Pain. " * 80, "Patient: It aches."),
        ("CC", " ", "Patient: It is nothing."),
    ]
    make_mts_dialog(tmp_path, count=2, rows=rows)
    split = TASKS["mts_note"].load(tmp_path)
    assert [item.answer for item in split.test] == ["None, c0.", "None, c1."]
    assert [item.answer for item in split.train] == ["None, a0.", "None, a1.", "None, b0.", "None, b1."]
    assert split.test[0].prompt == (
        'Doctor: Any, c0?\nPatient: None.\n\nWrite the section "allergies" of the clinical note.'
    )
