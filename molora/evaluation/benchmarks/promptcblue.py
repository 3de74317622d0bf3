"""The 16 tasks of PromptCBLUE: how an answer is read as a set, a label or text, and what of it is scored.

Each `_reference` reader does what the benchmark's own one does; its twin without the suffix mends it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molora.evaluation.benchmarks import metrics
from molora.evaluation.benchmarks.files import Row, dataset, promptcblue_rows

if TYPE_CHECKING:
    from datasets import Dataset

Found = frozenset[Hashable]
Reader = Callable[[str, Sequence[str]], Found]

_FIELDS, _LISTS = ("主体词", "发生状态", "描述词", "解剖部位"), ("描述词", "解剖部位")
_SECTIONS = ("主诉", "现病史", "辅助检查", "既往史", "诊断", "建议")
_NOTHING_STANDARD = "没有对应的标准化实体"
_UNSURE = {"IMCS-V2-SR": "无法根据上下文确定病人是否患有该症状", "CHIP-MDCFNPC": "不标注"}
_SAME = {"相同": "是的", "不同": "不是"}
_FIRST_LABEL = {
    "CHIP-CTC": "非上述类型",
    "KUAKE-QIC": "非上述类型",
    "IMCS-V2-DAC": "非上述类型",
    "CHIP-STS": "是的",
    "KUAKE-IR": "相关",
    "KUAKE-QQR": "完全一致",
    "KUAKE-QTR": "完全不匹配或者没有参考价值",
}
"""What the reference takes an empty answer for."""


def questions(dataset_name: str, data: str | None = None, **_: Any) -> dict[str, Dataset]:
    rows = promptcblue_rows(Path(data) if data else None, dataset_name)
    return dataset([row | {"name": dataset_name} for row in rows])


def score_sets(doc: Row, results: Sequence[str]) -> dict[str, tuple[Found, Found]]:
    """For the harness: (gold, predicted) as sets, read both ways."""
    mended, reference = READERS[doc["name"]]
    return {
        key: (read(doc["target"], doc["choices"]), read(results[0], doc["choices"]))
        for key, read in (("set_f1", mended), ("set_f1_reference", reference))
    }


def score_macro(doc: Row, results: Sequence[str]) -> dict[str, tuple[str, str]]:
    pair, reference = _labels(doc, results[0])
    return {"macro_f1": pair, "macro_f1_reference": reference}


def score_micro(doc: Row, results: Sequence[str]) -> dict[str, tuple[str, str]]:
    pair, reference = _labels(doc, results[0])
    return {"micro_f1": pair, "weighted_f1_reference": reference}


def score_reply(doc: Row, results: Sequence[str]) -> dict[str, float]:
    gold, predicted = doc["target"].strip(), results[0].strip()
    return {
        "rouge_l": metrics.rouge_l(gold, predicted),
        "rouge_l_reference": metrics.rouge_l_reference(gold, predicted),
    }


def score_report(doc: Row, results: Sequence[str]) -> dict[str, float | list[float]]:
    """ROUGE-L of a report's sections: their mean, and each one for the reference, which pools all reports' sections."""
    gold, predicted = sections(doc["target"]), sections(results[0])
    left = sections(results[0], skip=1)
    return {
        "rouge_l": metrics.mean([metrics.rouge_l(text, predicted.get(name, "")) for name, text in gold.items()]),
        "rouge_l_reference": [
            metrics.rouge_l_reference(text, left.get(name, ""))
            for name, text in sections(doc["target"], skip=1).items()
        ],
    }


def pooled(scores: Sequence[list[float]]) -> float:
    return metrics.mean([score for report in scores for score in report])


def entities(text: str, choices: Sequence[str]) -> Found:
    """A line for each type, "疾病实体：甲，乙" -> {("疾病", "甲"), ("疾病", "乙")}."""
    return frozenset(
        (choice, mention)
        for choice in choices
        for line in text.split("\n")
        if line.startswith(f"{choice}实体")
        for mention in _items(line.replace(f"{choice}实体：", ""))
    )


def triples(text: str, _: Sequence[str]) -> Found:
    """A line for each relation, "具有R关系的头尾实体对如下：头实体为甲，尾实体为乙。..." -> {(R, 甲, 乙), ...}."""
    found = set()
    for line in text.split("\n"):
        relation = line.partition("关系的头尾实体对")[0][2:].strip()
        for pair in line.replace(f"具有{relation}关系的头尾实体对如下：", "").split("。"):
            head, *tails = pair.split("，尾实体为")
            if tails:
                found.add((relation, head.replace("头实体为", "").strip(), tails[0].replace("尾实体为", "").strip()))
    return frozenset(found)


def terms(text: str, _: Sequence[str]) -> Found:
    """Names in the last line. One that was not offered is wrong."""
    return frozenset(_items(text.strip().split("\n")[-1])) - {_NOTHING_STANDARD}


def terms_reference(text: str, choices: Sequence[str]) -> Found:
    """Names that were not offered are passed over, so that inventing costs nothing."""
    return frozenset(_items(text.rsplit("\n", maxsplit=1)[-1])) & frozenset(choices)


def events(text: str, _: Sequence[str]) -> Found:
    """An event a line. The order within a list says nothing, and a line without a subject is no event."""
    found = [_event(line) for line in text.split("\n")]
    return frozenset(
        tuple(frozenset(value) if isinstance(value, tuple) else value for value in e) for e in found if e[0]
    )


def events_reference(text: str, _: Sequence[str]) -> Found:
    """Every line but the first, whatever it says; lists agree only in the same order."""
    return frozenset(_event(line) for line in text.split("\n")[1:])


def findings(text: str, _: Sequence[str]) -> Found:
    """ "咳嗽：患有该症状" -> ("咳嗽", "患有该症状"). A lead-in is known by its empty right side."""
    pairs = [line.split("：") for line in text.split("\n")]
    return frozenset((pair[0].strip(), pair[1].strip()) for pair in pairs if len(pair) == 2 and pair[1].strip())


def _findings_reference(unsure: str) -> Reader:
    def read(text: str, choices: Sequence[str]) -> Found:
        """Without the first line; a judgement that was not offered is read as the one of uncertainty."""
        pairs = [line.split("：") for line in text.split("\n")[1:]]
        return frozenset(
            (pair[0].strip(), pair[1] if pair[1] in choices else unsure) for pair in pairs if len(pair) == 2
        )

    return read


READERS: dict[str, tuple[Reader, Reader]] = {
    "CMeEE-V2": (entities, entities),
    "IMCS-V2-NER": (entities, entities),
    "CMeIE": (triples, triples),
    "CHIP-CDN": (terms, terms_reference),
    "CHIP-CDEE": (events, events_reference),
    "IMCS-V2-SR": (findings, _findings_reference(_UNSURE["IMCS-V2-SR"])),
    "CHIP-MDCFNPC": (findings, _findings_reference(_UNSURE["CHIP-MDCFNPC"])),
}
"""Task -> how an answer is read as a set: mended, and as in the reference."""


def sections(text: str, skip: int = 0) -> dict[str, str]:
    """ "主诉：..." -> its text. The reference skips the first line, taking it for a lead-in."""
    found = {}
    for line in text.strip().split("\n")[skip:]:
        for name in _SECTIONS:
            if line.startswith(f"{name}："):
                found[name] = line.removeprefix(f"{name}：").strip()
    return found


def _labels(doc: Row, text: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """(gold, predicted) as it is, and with the reference's reading of an empty answer."""
    gold, label = doc["target"].strip(), text.strip()
    if doc["name"] == "CHIP-STS":
        gold, label = _SAME.get(gold, gold), _SAME.get(label, label)
    return (gold, label), (gold, label or _FIRST_LABEL[doc["name"]])


def _event(line: str) -> tuple[str | tuple[str, ...], ...]:
    said = dict(part.partition("：")[::2] for part in line.split("；"))
    return tuple(
        tuple(_items(said.get(name, ""))) if name in _LISTS else said.get(name, "").strip() for name in _FIELDS
    )


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split("，") if item.strip()]
