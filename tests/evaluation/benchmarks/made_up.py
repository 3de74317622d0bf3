"""Benchmark files in their authors' formats; every question is made up here."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

LEAD = "上述内容如下："

PROMPTCBLUE: dict[str, tuple[str, list[str] | None]] = {
    "CMeEE-V2": ("上述句子中的实体包含：\n疾病实体：感冒，哮喘\n药物实体：", ["疾病", "药物"]),
    "CMeIE-V2": ("具有药物治疗关系的头尾实体对如下：头实体为感冒，尾实体为甲药。", ["药物治疗"]),
    "CHIP-CDN": ("感冒，哮喘", ["感冒", "哮喘", "骨折"]),
    "CHIP-CDEE": (f"{LEAD}\n主体词：疼痛；发生状态：；描述词：持续性，胀痛；解剖部位：腹", None),
    "IMCS-V2-NER": ("上述句子中的实体包含：\n症状实体：咳嗽", ["症状"]),
    "IMCS-V2-SR": (f"{LEAD}\n咳嗽：患有该症状", ["患有该症状", "没有患有该症状"]),
    "CHIP-MDCFNPC": (f"{LEAD}\n咳嗽：未患有症状疾病", ["未患有症状疾病"]),
    "CHIP-CTC": ("年龄", ["年龄", "性别"]),
    "KUAKE-QIC": ("病因分析", ["病因分析", "医疗费用"]),
    "IMCS-V2-DAC": ("给出诊断", ["给出诊断"]),
    "CHIP-STS": ("是的", ["是的", "不是"]),
    "KUAKE-IR": ("相关", ["相关", "不相关"]),
    "KUAKE-QQR": ("完全一致", ["完全一致", "语义无直接关联"]),
    "KUAKE-QTR": ("部分匹配", ["部分匹配", "完全匹配"]),
    "MedDG": ("多喝水。", None),
    "IMCS-V2-MRG": (f"{LEAD}\n主诉：咳嗽\n诊断：感冒", None),
}
"""task_dataset -> (target, answer_choices)"""


def make_promptcblue(data: Path, copies: int = 2) -> Path:
    rows = [
        {"input": f"第{n}题：咳嗽。", "target": target, "answer_choices": choices, "task_dataset": name}
        for n in range(copies)
        for name, (target, choices) in PROMPTCBLUE.items()
    ]
    return _write(data / "promptcblue/test.json", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def make_cmexam(data: Path) -> Path:
    path = _write(data / "cmexam/test_with_annotations.csv", "")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Question", "Options", "Answer", "Explanation"])
        writer.writerow(["咳嗽属于", "A 症状\nB 药物\nC 检查", "A", "-"])
        writer.writerow(["下列属于症状的是", "A 咳嗽\nB 甲药\nC 发热", "AC", "-"])
        writer.writerow(["没有答案的题", "A 甲\nB 乙", "", "-"])
    return path


def make_cmb(data: Path) -> tuple[Path, Path]:
    questions = [
        {"id": 1, "question": "甲药治疗", "question_type": "单项选择题", "option": {"A": "感冒", "B": "骨折", "C": ""}},
        {"id": 2, "question": "下列属于症状的是", "question_type": "多项选择题", "option": {"A": "咳嗽", "B": "发热"}},
    ]
    answers = [{"id": 2, "answer": "AB"}, {"id": 1, "answer": "A"}]
    return (
        _write(data / "cmb/CMB-test-choice-question-merge.json", json.dumps(questions)),
        _write(data / "cmb/CMB-test-choice-answer.json", json.dumps(answers)),
    )


def make_ple(data: Path) -> None:
    rows: list[dict[str, Any]] = [{"question": "甲药属于", "option": {"A": "中药", "B": "西药"}, "answer": "B"}]
    for exam in ("pharmacy", "tcm"):
        _write(data / f"ple/{exam}.json", json.dumps(rows))


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
