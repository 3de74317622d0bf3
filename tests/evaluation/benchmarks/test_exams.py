from __future__ import annotations

from pathlib import Path

import pytest

from molora.errors import MoloraError
from molora.evaluation.benchmarks.exams import chosen, document, first_letter_reference, phrase_reference, score
from molora.evaluation.benchmarks.files import cmb_rows, cmexam_rows, ple_rows
from tests.evaluation.benchmarks.made_up import make_cmb, make_cmexam, make_ple


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("A", "A"),
        ("ACD", "ACD"),
        ("B. 骨折", "B"),
        ("A、C，D", "ACD"),
        ("先做CT检查，所以答案为C。", "C"),
        ("A错，B错。答案是：D", "D"),
        ("CT和DNA", ""),
        ("不知道", ""),
    ],
)
def test_chosen_reads_letters_that_stand_alone(text: str, letters: str) -> None:
    assert chosen(text) == set(letters)


def test_the_references_rules() -> None:
    assert first_letter_reference("先做CT检查，答案为D") == "C", "a letter inside a word counts"
    assert first_letter_reference("F") == ""
    assert phrase_reference("分析……\n答案为AC。", "AC")
    assert not phrase_reference("答案为ACD", "AC")
    assert phrase_reference("A对，B错，C对，D错，E错", "AC")
    assert phrase_reference("A对，B对，C错，为本题正确答案", "C")
    assert not phrase_reference("AC", "AC"), "letters without the phrase do not count"


def test_score_differs_where_the_reference_is_wrong() -> None:
    several = {"answer": "AC"}
    assert score(several, ["AC"]) == {"acc": 1, "acc_first_letter_reference": 0, "acc_phrase_reference": 0}
    assert score({"answer": "D"}, ["CT示异常，答案为D"])["acc_first_letter_reference"] == 0
    assert score({"answer": "D"}, ["CT示异常，答案为D"])["acc"] == 1


def test_a_question_lists_its_options_and_says_how_many_are_right() -> None:
    one = document({"question": "甲药治疗", "options": {"A": "感冒", "B": "骨折", "C": " "}, "answer": "A"})
    assert one["letters"] == ["A", "B"], "an option without text is none"
    assert one["prompt"].splitlines()[:3] == ["甲药治疗", "A. 感冒", "B. 骨折"]
    several = document({"question": "?", "options": {"A": "x", "B": "y"}, "answer": "AB"})
    assert "单项" in one["prompt"]
    assert "多项" in several["prompt"]


def test_the_authors_files_are_read(tmp_path: Path) -> None:
    make_cmexam(tmp_path)
    make_cmb(tmp_path)
    make_ple(tmp_path)
    first, second = cmexam_rows(tmp_path)
    assert first == {"question": "咳嗽属于", "options": {"A": "症状", "B": "药物", "C": "检查"}, "answer": "A"}
    assert second["answer"] == "AC"
    assert [row["answer"] for row in cmb_rows(tmp_path)] == ["A", "AB"], "answers belong to questions by their id"
    assert ple_rows(tmp_path, "tcm")[0]["answer"] == "B"


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(MoloraError, match=r"test_with_annotations\.csv.*williamliujl/CMExam"):
        cmexam_rows(tmp_path)
    with pytest.raises(MoloraError, match=r"pharmacy\.json.*HuatuoGPT-II"):
        ple_rows(tmp_path, "pharmacy")
    questions, answers = make_cmb(tmp_path)
    answers.write_text('[{"id": 1, "answer": "A"}]')
    with pytest.raises(MoloraError, match="no answer to question 2"):
        cmb_rows(tmp_path)
    questions.write_text('[{"id": 1, "question": "?"}]')
    with pytest.raises(MoloraError, match=r"Question 1 of .* lacks option"):
        cmb_rows(tmp_path)
    questions.write_text("[")
    with pytest.raises(MoloraError, match="is not JSON"):
        cmb_rows(tmp_path)
    make_cmexam(tmp_path).write_bytes("题".encode("gbk"))
    with pytest.raises(MoloraError, match="not UTF-8"):
        cmexam_rows(tmp_path)
