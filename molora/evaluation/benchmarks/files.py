"""The benchmarks' files as their authors publish them, below the user's `--data` folder -> rows for the harness.

Nothing is downloaded here. Every lack or fault is a MoloraError that names the file and where its authors publish it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molora.errors import MoloraError
from molora.tasks.sources import Folder

if TYPE_CHECKING:
    from datasets import Dataset

Row = dict[str, Any]

_CMB_QUESTIONS, _CMB_ANSWERS = "CMB-test-choice-question-merge.json", "CMB-test-choice-answer.json"

CMEXAM = Folder(
    name="CMExam",
    licence="see its repository",
    where="It is a CSV file with the columns Question, Options and Answer: get data/test_with_annotations.csv from the "
    "GitHub repository williamliujl/CMExam, into cmexam/.",
    folder="cmexam",
    files=("test_with_annotations.csv",),
)
CMB = Folder(
    name="CMB",
    licence="Apache-2.0",
    where="They are JSON lists: get CMB-test-choice-answer.json and, out of CMB.zip, "
    "CMB-test-choice-question-merge.json from data/ in the GitHub repository FreedomIntelligence/CMB, into cmb/.",
    folder="cmb",
    files=(_CMB_QUESTIONS, _CMB_ANSWERS),
)
PROMPTCBLUE = Folder(
    name="PromptCBLUE",
    licence="for research, see its repository",
    where="It holds a JSON object a line with input, target, answer_choices and task_dataset: register as the GitHub "
    "repository michael-wzhu/PromptCBLUE says, and put dev.json, or a test.json with its answers, at "
    "promptcblue/test.json.",
    folder="promptcblue",
    files=("test.json",),
)


def ple_source(exam: str) -> Folder:
    return Folder(
        name=f"PLE ({exam})",
        licence="see its repository",
        where="It is a JSON list of objects with question, option and answer, as in CMB: the GitHub repository "
        f"FreedomIntelligence/HuatuoGPT-II says where the 2023 exams are; save this one as ple/{exam}.json.",
        folder="ple",
        files=(f"{exam}.json",),
    )


def cmexam_rows(data: Path | None) -> list[Row]:
    """Questions with an answer; the authors' own script leaves out the few that have none."""
    (path,) = _paths(CMEXAM, data)
    with io.StringIO(_text(path), newline="") as file:
        rows = list(csv.DictReader(file))
    _need(rows, ("Question", "Options", "Answer"), path)
    return [
        {
            "question": row["Question"],
            "options": {
                line[0]: line[1:].strip(" .、．") for line in map(str.strip, row["Options"].splitlines()) if line
            },
            "answer": row["Answer"],
        }
        for row in rows
        if row["Answer"]
    ]


def cmb_rows(data: Path | None) -> list[Row]:
    questions, answers = _paths(CMB, data)
    answer_of = {row["id"]: row["answer"] for row in _need(_json(answers), ("id", "answer"), answers)}
    rows = _need(_json(questions), ("id", "question", "option"), questions)
    if lacking := [row["id"] for row in rows if row["id"] not in answer_of]:
        raise MoloraError(f"{answers} has no answer to question {lacking[0]} of {questions}. {CMB.where}")
    return [{"question": r["question"], "options": r["option"], "answer": answer_of[r["id"]]} for r in rows]


def ple_rows(data: Path | None, exam: str) -> list[Row]:
    (path,) = _paths(ple_source(exam), data)
    rows = _need(_json(path), ("question", "option", "answer"), path)
    return [{"question": row["question"], "options": row["option"], "answer": row["answer"]} for row in rows]


def promptcblue_rows(data: Path | None, dataset: str) -> list[Row]:
    """One task's rows, in the file's order; CMeIE is named CMeIE-V2 in later releases."""
    (path,) = _paths(PROMPTCBLUE, data)
    lines = [line for line in _text(path).splitlines() if line.strip()]
    rows = [_object(line, path, number) for number, line in enumerate(lines, 1)]
    _need(rows, ("input", "target", "answer_choices", "task_dataset"), path)
    mine = [row for row in rows if row["task_dataset"].removesuffix("-V2") == dataset.removesuffix("-V2")]
    if not mine:
        raise MoloraError(f"{path} has no line with task_dataset {dataset!r}. {PROMPTCBLUE.where}")
    if not any(row["target"] for row in mine):
        raise MoloraError(f"{path} withholds the answers (every target of {dataset} is empty). {PROMPTCBLUE.where}")
    return [{"input": r["input"], "target": r["target"], "choices": r["answer_choices"] or []} for r in mine]


def dataset(rows: Sequence[Row]) -> dict[str, Dataset]:
    """As the harness takes it."""
    from datasets import Dataset

    return {"test": Dataset.from_list(list(rows))}


def _options(text: str) -> dict[str, str]:
    """ "A one\\nB two" -> {"A": "one", "B": "two"}"""
    lines = [line.strip() for line in text.splitlines()]
    return {line[0]: line[1:].strip(" .、．") for line in lines if line}


def _paths(source: Folder, data: Path | None) -> list[Traversable]:
    root = source.root(data)
    return [root / name for name in source.files]


def _text(path: Traversable) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MoloraError(f"{path} is not UTF-8 text; get it from its authors again.") from error


def _json(path: Traversable) -> Any:
    return _parse(_text(path), str(path))


def _object(line: str, path: Traversable, number: int) -> Any:
    return _parse(line, f"Line {number} of {path}")


def _parse(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise MoloraError(f"{what} is not JSON ({error}); get the file from its authors again.") from error


def _need(rows: Any, keys: tuple[str, ...], path: Traversable) -> list[Row]:
    """The rows, if they are a list of objects that have all keys."""
    if not isinstance(rows, list) or not rows:
        raise MoloraError(f"{path} should be a list of questions that is not empty.")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or (missing := [key for key in keys if key not in row]):
            lacks = ", ".join(missing) if isinstance(row, dict) else "every field"
            raise MoloraError(f"Question {number} of {path} lacks {lacks}; it needs {', '.join(keys)}.")
    return rows
