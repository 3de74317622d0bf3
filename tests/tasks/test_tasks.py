from __future__ import annotations

from pathlib import Path

import pytest

from molora.errors import MoloraError
from molora.tasks import TASKS
from molora.tasks.sources import Folder
from molora.tasks.task import held_out
from tests.sources import make_medquad, make_mts_dialog, make_ncbi_disease, make_pubmedqa


def test_held_out_goes_by_concept_and_keeps_its_share() -> None:
    names = [f"disease {number}" for number in range(4000)]
    assert held_out("Asthma") == held_out(" asthma ") == held_out("ASTHMA")
    assert 0.035 < sum(map(held_out, names)) / len(names) < 0.065


def test_medquad_splits_by_disease_cleans_questions_and_ends_with_a_sentence(tmp_path: Path) -> None:
    long = "A sentence about it. " * 60
    table = "The Human Phenotype Ontology provides the following list."
    documents = {
        f"disease {n}": [("What is (are) disease ?", long), ("What are the symptoms ?", table), ("Empty ?", "")]
        for n in range(100)
    }
    make_medquad(tmp_path, documents)
    split = TASKS["medquad"].load(tmp_path)
    tests = sum(held_out(name) for name in documents)
    assert len(split.test) == 2 * tests > 0, "held-out answers are all kept, the empty ones apart"
    assert table not in {item.answer for item in split.train}
    assert sum(item.prompt == "What is disease?" for item in split.train) == 100 - tests
    answer = split.train[0].answer
    assert len(answer) <= 700
    assert answer.endswith("about it.")


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
        (
            "Ask. - Does it hurt for a long time?  - Is it red? Does it hurt for a long time? Is it red?",
            "Ask.\n- Does it hurt for a long time?\n- Is it red?",
        ),
        ("It. " * 170 + "Signs are:   - fever " + "   - a long item" * 9, "It. " * 170 + "Signs are:\n- fever"),
    ],
)
def test_medquad_answers_keep_their_lists_and_say_nothing_twice(tmp_path: Path, raw: str, answer: str) -> None:
    make_medquad(tmp_path, {"asthma": [("What ?", raw)]})
    split = TASKS["medquad"].load(tmp_path)
    assert [item.answer for item in (*split.train, *split.test)] == [answer]


def test_pubmedqa_follows_the_official_split(tmp_path: Path) -> None:
    make_pubmedqa(tmp_path)
    split = TASKS["pubmedqa"].load(tmp_path)
    assert len(split.train) == len(split.test) == 6
    assert {item.answer for item in split.train} == {"yes", "no", "maybe"}
    assert "Question: Does remedy" in split.train[0].prompt


def test_ncbi_disease_lists_mentions_once_in_order(tmp_path: Path) -> None:
    make_ncbi_disease(tmp_path)
    train = TASKS["ncbi_disease"].load(tmp_path).train
    assert [(item.prompt.partition("\n\n")[2], item.answer) for item in train] == [
        ("Hereditary breast cancer and ataxia (rare), ataxia.", "Hereditary breast cancer; ataxia"),
        ("Nothing T-cell.", "none"),
    ]
    assert all("semicolons" in item.prompt and '"none"' in item.prompt for item in train)


def test_mts_dialog_asks_for_the_section(tmp_path: Path) -> None:
    make_mts_dialog(tmp_path)
    item = TASKS["mts_dialog"].load(tmp_path).train[0]
    assert item.answer == "ALLERGY"
    assert item.prompt.startswith("Doctor: Any allergies, 0?\nPatient: None.")


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if isinstance(task.sources[0], Folder)])
def test_missing_files_are_listed_with_their_source(tmp_path: Path, name: str) -> None:
    task = TASKS[name]
    with pytest.raises(MoloraError) as caught:
        task.load(tmp_path)
    (source,) = task.sources
    assert isinstance(source, Folder)
    assert all(file in str(caught.value) for file in source.files)
    assert source.where in str(caught.value)
