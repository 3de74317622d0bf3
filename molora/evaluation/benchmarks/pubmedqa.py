"""PubMedQA's 500 official test questions from the authors' files, in the form that training gives the other 500."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molora.evaluation.benchmarks.files import Row, dataset
from molora.tasks import TASKS

if TYPE_CHECKING:
    from datasets import Dataset


def questions(data: str | None = None, **_: Any) -> dict[str, Dataset]:
    items = TASKS["pubmedqa"].load(Path(data) if data else None).test
    return dataset([{"prompt": item.prompt, "answer": item.answer, "choices": list(item.choices)} for item in items])


def score(doc: Row, results: Sequence[tuple[float, bool]]) -> dict[str, float | tuple[str, str]]:
    """For the harness: the likeliest of yes, no and maybe, given (log likelihood, is greedy) of each."""
    likelihoods = [likelihood for likelihood, _ in results]
    predicted = doc["choices"][likelihoods.index(max(likelihoods))]
    return {"acc": float(predicted == doc["answer"]), "macro_f1": (doc["answer"], predicted)}
