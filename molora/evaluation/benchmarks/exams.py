"""Chinese licensing exams (CMExam, CMB, PLE): rows -> prompts, and how a generated answer is read and scored."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molora.errors import MoloraError
from molora.evaluation.benchmarks.files import Row, cmb_rows, cmexam_rows, dataset, ple_rows

if TYPE_CHECKING:
    from datasets import Dataset

_EXAMS: dict[str, Callable[[Path | None], list[Row]]] = {
    "cmexam": cmexam_rows,
    "cmb": cmb_rows,
    "ple_pharmacy": lambda data: ple_rows(data, "pharmacy"),
    "ple_tcm": lambda data: ple_rows(data, "tcm"),
}

_ASK_ONE = "这是单项选择题。请只回答正确选项的字母。"
_ASK_SEVERAL = "这是多项选择题。请只回答所有正确选项的字母。"

_RUN = r"(?<![A-Za-z])[A-G](?:[ 、，,和]*[A-G])*(?![A-Za-z])"
"""Option letters that are no part of a word: "B" and "A、C", but not the C of "CT"."""
_SAID = re.compile(r"答案(?:是|为|应该是|应为)?[:： ]*(" + _RUN + ")")
_ALONE = re.compile(_RUN)


def questions(exam: str, data: str | None = None, single: bool = False, **_: Any) -> dict[str, Dataset]:
    """All questions of an exam; with `single` only those with one right answer, whose letters can be compared."""
    rows = _EXAMS[exam](Path(data) if data else None)
    docs = [document(row) for row in rows if not single or len(row["answer"]) == 1]
    if not docs:
        raise MoloraError(f"The file of {exam} has no question with one right answer.")
    return dataset(docs)


def document(row: Row) -> Row:
    """One question as the model reads it. Options without text are left out, as the authors do."""
    options = {letter: text for letter, text in row["options"].items() if str(text).strip()}
    lines = [row["question"], *(f"{letter}. {text}" for letter, text in options.items())]
    ask = _ASK_ONE if len(row["answer"]) == 1 else _ASK_SEVERAL
    return {"prompt": "\n".join([*lines, ask, "答案："]), "letters": list(options), "answer": row["answer"]}


def score(doc: Row, results: Sequence[str]) -> dict[str, float]:
    """For the harness: the corrected score, and the two of the reference."""
    (text,), answer = results, doc["answer"]
    return {
        "acc": float(chosen(text) == set(answer)),
        "acc_first_letter_reference": float(first_letter_reference(text) == answer),
        "acc_phrase_reference": float(phrase_reference(text, answer)),
    }


def chosen(text: str) -> set[str]:
    """The options that an answer names: after its last "答案", or else the first letters that stand alone."""
    said = _SAID.findall(text)
    run = said[-1] if said else (match[0] if (match := _ALONE.search(text)) else "")
    return set(re.findall("[A-G]", run))


def first_letter_reference(text: str) -> str:
    """MING's rule for PLE: the first of A to E anywhere, also inside a word, so that several answers never count."""
    match = re.search("[A-E]", text)
    return match[0] if match else ""


def phrase_reference(text: str, answer: str) -> bool:
    """MING's rule for CMExam and CMB: exactly the right letters of A to E after "答案为" in the last line.

    Without that phrase an option counts as chosen where "对" follows its letter, or the answer as right where it is
    called wrong "and so the right answer of this question".
    """
    phrase = re.search("答案为(.*?)$", text.rsplit("\n\n\n", 1)[0])
    if phrase:
        return all((letter in phrase[0]) == (letter in answer) for letter in {*"ABCDE", *answer})
    if f"{answer}错，为本题正确答案" in text:
        return True
    return all((f"{letter}对" in text) == (letter in answer) for letter in {*"ABCDE", *answer})
