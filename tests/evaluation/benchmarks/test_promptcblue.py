from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from molora.errors import MoloraError
from molora.evaluation.benchmarks import promptcblue as tasks
from molora.evaluation.benchmarks.files import promptcblue_rows
from tests.evaluation.benchmarks.made_up import LEAD, PROMPTCBLUE, make_promptcblue


def doc(name: str) -> dict[str, Any]:
    target, choices = PROMPTCBLUE.get(name) or PROMPTCBLUE[f"{name}-V2"]
    return {"name": name, "target": target, "choices": choices or []}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("CMeEE-V2", {("疾病", "感冒"), ("疾病", "哮喘")}),
        ("IMCS-V2-NER", {("症状", "咳嗽")}),
        ("CMeIE", {("药物治疗", "感冒", "甲药")}),
        ("CHIP-CDN", {"感冒", "哮喘"}),
        ("CHIP-CDEE", {("疼痛", "", frozenset({"持续性", "胀痛"}), frozenset({"腹"}))}),
        ("IMCS-V2-SR", {("咳嗽", "患有该症状")}),
        ("CHIP-MDCFNPC", {("咳嗽", "未患有症状疾病")}),
    ],
)
def test_a_right_answer_is_read_alike_both_ways(name: str, found: set[object]) -> None:
    task = doc(name)
    scores = tasks.score_sets(task, [task["target"]])
    assert scores["set_f1"] == (frozenset(found), frozenset(found))
    gold, predicted = scores["set_f1_reference"]
    assert gold == predicted
    assert len(gold) == len(found)


@pytest.mark.parametrize(
    ("name", "answer", "mended", "reference"),
    [
        # an invented term is wrong, and not passed over
        ("CHIP-CDN", "感冒，哮喘，癌", (2, 2, 3), (2, 2, 2)),
        # no lead-in: the first line counts
        ("IMCS-V2-SR", "咳嗽：患有该症状", (1, 1, 1), (0, 1, 0)),
        ("CHIP-MDCFNPC", f"{LEAD}\n咳嗽：未患有症状疾病 ", (1, 1, 1), (0, 1, 1)),
        # another order of a list, and an empty line
        ("CHIP-CDEE", f"{LEAD}\n主体词：疼痛；描述词：胀痛，持续性；解剖部位：腹\n", (1, 1, 1), (0, 1, 2)),
        # lines that are no relation
        ("CMeIE", "我不知道。", (0, 1, 0), (0, 1, 0)),
    ],
)
def test_where_the_reference_reads_otherwise(
    name: str, answer: str, mended: tuple[int, int, int], reference: tuple[int, int, int]
) -> None:
    scores = tasks.score_sets(doc(name), [answer])
    for key, expected in (("set_f1", mended), ("set_f1_reference", reference)):
        gold, predicted = scores[key]
        assert (len(gold & predicted), len(gold), len(predicted)) == expected, key


def test_the_reference_takes_any_judgement_for_uncertainty() -> None:
    unsure = "无法根据上下文确定病人是否患有该症状"
    task = {"name": "IMCS-V2-SR", "target": f"{LEAD}\n咳嗽：{unsure}", "choices": [unsure]}
    scores = tasks.score_sets(task, [f"{LEAD}\n咳嗽：香蕉"])
    assert scores["set_f1_reference"][0] == scores["set_f1_reference"][1]
    assert scores["set_f1"][0] != scores["set_f1"][1]


def test_nothing_standard_is_the_empty_set() -> None:
    task = {"name": "CHIP-CDN", "target": "没有对应的标准化实体", "choices": ["感冒"]}
    assert tasks.score_sets(task, ["没有对应的标准化实体"])["set_f1"] == (frozenset(), frozenset())


def test_an_empty_label_is_wrong_and_for_the_reference_the_first_label() -> None:
    task = {"name": "CHIP-STS", "target": "是的", "choices": []}
    assert tasks.score_micro(task, [""]) == {"micro_f1": ("是的", ""), "weighted_f1_reference": ("是的", "是的")}
    assert tasks.score_micro(task, ["相同\n"])["micro_f1"] == ("是的", "是的")
    assert tasks.score_macro(doc("CHIP-CTC"), [""])["macro_f1_reference"] == ("年龄", "非上述类型")


def test_reports_are_scored_by_section() -> None:
    task = doc("IMCS-V2-MRG")
    scores = tasks.score_report(task, [f"{LEAD}\n主诉：咳嗽\n诊断：肺炎"])
    assert scores["rouge_l"] == pytest.approx(1 / 2)
    assert scores["rouge_l_reference"] == pytest.approx([1, 0], abs=1e-6)
    headless = tasks.score_report(task, ["主诉：咳嗽\n诊断：感冒"])
    assert headless["rouge_l"] == 1
    assert headless["rouge_l_reference"] == pytest.approx([0, 1], abs=1e-6), "the first line is skipped"
    assert tasks.pooled([[1.0, 0.0], [0.5]]) == 0.5


def test_replies_are_scored_by_characters() -> None:
    assert tasks.score_reply(doc("MedDG"), ["喝水"])["rouge_l"] == pytest.approx(2 * 2 / (4 + 2))


def test_rows_of_one_task_are_picked_from_the_file(tmp_path: Path) -> None:
    path = make_promptcblue(tmp_path, copies=3)
    rows = promptcblue_rows(tmp_path, "CMeIE")
    assert len(rows) == 3, "CMeIE-V2 is the same task"
    assert rows[0] == {"input": "第0题：咳嗽。", "target": PROMPTCBLUE["CMeIE-V2"][0], "choices": ["药物治疗"]}
    path.write_text(json.dumps({"input": "?", "target": "", "answer_choices": None, "task_dataset": "MedDG"}))
    with pytest.raises(MoloraError, match="withholds the answers"):
        promptcblue_rows(tmp_path, "MedDG")
    with pytest.raises(MoloraError, match="no line with task_dataset 'CHIP-CTC'"):
        promptcblue_rows(tmp_path, "CHIP-CTC")
    path.write_text('{"input": "?"}\n{')
    with pytest.raises(MoloraError, match=r"Line 2 of .*test\.json is not JSON"):
        promptcblue_rows(tmp_path, "MedDG")
