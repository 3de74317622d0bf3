from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from molora.tasks import TASKS, Split
from molora.tasks.medquad import TYPES
from molora.tasks.medquad_text import plain_answer, plain_question, plain_topic
from molora.tasks.overlap import concepts_across, overlaps
from molora.tasks.task import held_out
from tests.sources import make_medquad

NAMES = [f"{one}{two}oma" for one, two in product("bcdfgh", "aeiou")]
TESTS = [name for name in NAMES if held_out(name, 20)]
TRAINS = [name for name in NAMES if name not in TESTS]


def test_each_type_is_a_task_and_a_disease_is_in_one_half_of_all(tmp_path: Path) -> None:
    pages = {
        name: [
            ("symptoms", f"What are the symptoms of {name} ?", f"{name} hurts."),
            ("exams and tests", f"How to diagnose {name} ?", f"{name} is seen."),
            ("stages", f"What are the stages of {name} ?", "There are two."),
        ]
        for name in NAMES
    }
    make_medquad(tmp_path, pages)
    symptoms, exams = (TASKS[name].load(tmp_path) for name in ("medquad_symptoms", "medquad_exams_and_tests"))
    assert 1 < len(TESTS) < 12
    assert [item.concept for item in symptoms.test] == [item.concept for item in exams.test] == TESTS
    assert [item.prompt for item in symptoms.train] == [f"What are the symptoms of {name}?" for name in TRAINS]
    assert [item.answer for item in exams.train] == [f"{name} is seen." for name in TRAINS]
    assert TASKS["medquad_causes"].load(tmp_path) == ([], [])


def test_every_type_has_its_task() -> None:
    assert [name for name in TASKS if name.startswith("medquad_")] == [f"medquad_{t.replace(' ', '_')}" for t in TYPES]


def test_another_archive_is_read_anew(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        make_medquad(tmp_path / name, {TRAINS[0]: [("causes", "What ?", f"It is {name}.")]})
    answers = [TASKS["medquad_causes"].load(tmp_path / name).train[0].answer for name in ("one", "two")]
    assert answers == ["It is one.", "It is two."]


def test_other_names_of_a_disease_and_copies_of_its_answer_are_kept_out_of_training(tmp_path: Path) -> None:
    said = "Doctors tell it from other growths by the blue ring around each of its many small and painful round spots."
    test, synonym, copy, other = TESTS[0], f"{TESTS[0]} type 2", *TRAINS[:2]
    pages = {
        test: [("causes", f"What causes {test} ?", said)],
        synonym: [("causes", f"What causes {synonym} ?", "Nobody knows.")],
        copy: [("information", f"What is {copy} ?", f"{said} Rest helps.")],
        other: [("causes", f"What causes {other} ?", "Dust does."), ("causes", f"What causes {other} ?", "Dust does.")],
    }
    make_medquad(tmp_path, pages)
    causes = TASKS["medquad_causes"].load(tmp_path)
    assert [item.prompt for item in causes.test] == [f"What causes {test}?", f"What causes {synonym}?"]
    assert [item.prompt for item in causes.train] == [f"What causes {other}?"], "the same pair once"
    assert TASKS["medquad_information"].load(tmp_path) == ([], []), "a copy of a test answer, under another type"


_EIGHT = "\n".join(f"- sign {n}" for n in range(8))


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        ("Signs are:    - Fever   -  Cough.      Rest helps.", "Signs are:\n- Fever\n- Cough.\nRest helps."),
        ("A drug - often\n two - helps.", "A drug - often two - helps."),
        ("Key Points\n   - One.    - Two.\n   \n   It is rare.", "It is rare."),
        ("Summary : It is rare.", "It is rare."),
        ("Signs are:" + "".join(f"   - sign {n}" for n in range(12)), "Signs are:\n" + _EIGHT),
        ("What causes it? Nobody knows.", "Nobody knows."),
        ("What causes it?", ""),
        ("Frequently Asked Questions (FAQs)", ""),
        ("These resources address the diagnosis of it:   - Some Clinic", ""),
        ("The Human Phenotype Ontology provides a list.", ""),
        ("It hurts. The Human Phenotype Ontology provides a list.", "It hurts."),
        (
            "Ask. - Does it hurt for a long time?  - Is it red? Does it hurt for a long time? Is it red?",
            "Ask.\n- Does it hurt for a long time?\n- Is it red?",
        ),
        ("It. " * 170 + "Signs are:   - fever " + "   - a long item" * 9, "It. " * 170 + "Signs are:\n- fever"),
        ("A sentence about it. " * 60, ("A sentence about it. " * 33).strip()),
    ],
)
def test_answers_keep_their_lists_say_nothing_twice_and_end_with_a_sentence(raw: str, answer: str) -> None:
    assert plain_answer(raw) == answer


def test_questions_and_topics_read_as_people_write() -> None:
    assert plain_question("What is (are)  gout ?") == "What is gout?"
    assert plain_question("what can i do to prevent gout ??") == "What can I do to prevent gout?"
    assert plain_question("Do you have information about Gout") == "Do you have information about Gout?"
    assert plain_question("What causes What I need to know about Gout ?") == "What causes Gout?"
    assert plain_topic("What I need to know about  Gout") == "Gout"


def test_questions_and_passages_turned_round_name_their_type_and_disease(tmp_path: Path) -> None:
    name, plural = TRAINS[:2]
    pages = {
        name: [
            ("causes", f"What causes {name} ?", f"Dust can cause {name.upper()}. It may pass."),
            ("outlook", f"What is the outlook for {name} ?", f"Most {name}s pass."),
            ("symptoms", f"What are the symptoms of {name} ?", f"People with {name} sneeze."),
            ("stages", f"What are the stages of {name} ?", f"{name} has two."),
        ],
        plural: [
            ("causes", f"What causes {plural} ?", "Inherited mutations."),
            ("genetic changes", f"What causes {plural} ?", "Inherited changes."),
        ],
        TESTS[0]: [("causes", f"What causes {TESTS[0]} ?", f"Smoke causes {TESTS[0]}.")],
    }
    make_medquad(tmp_path, pages)
    question, passage, disease = (TASKS[n].load(tmp_path) for n in ("question_type", "passage_type", "passage_disease"))
    assert [(item.prompt.partition("\n")[0], item.answer) for item in question.train] == [
        (f"What causes {name}?", "causes"),
        (f"What is the outlook for {name}?", "outlook"),
        (f"What are the symptoms of {name}?", "symptoms"),
    ], "a question of two types has no one answer"
    assert [item.answer for item in passage.train] == ["causes", "outlook", "symptoms", "causes", "genetic changes"]
    assert f"tell about {name}: causes, considerations, " in passage.train[0].prompt
    assert [item.answer for item in disease.train] == [name.upper(), name], "the name as a word of its own"
    assert [item.answer for item in disease.test] == [TESTS[0]]
    assert all(item.choices == TYPES for item in (*question.train, *passage.test))
    splits: list[Split] = [TASKS[n].load(tmp_path) for n in TASKS if TASKS[n].source == "MedQuAD"]
    assert concepts_across(splits) == []
    assert not any(map(overlaps, splits))
