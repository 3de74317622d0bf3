"""Scores of predictions, 0 to 100, one function a metric.

The arithmetic is left to libraries: rouge-score is Google's own ROUGE, whose numbers papers cite; scikit-learn is the
reference for accuracy and F1. Both are in the dependency group `eval`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from molora.errors import MoloraError
from molora.tasks import Item

NONE = "none"
"""How an empty set is written."""


def rouge_l(predictions: Sequence[str], items: Sequence[Item]) -> float:
    """Mean ROUGE-L F1 without stemming. Letters outside a-z and digits separate words and count for nothing."""
    each = rouge_l_each(predictions, items)
    return sum(each) / len(each)


def rouge_l_each(predictions: Sequence[str], items: Sequence[Item]) -> list[float]:
    """ROUGE-L F1 of every item."""
    scorer = _library("rouge_score.rouge_scorer").RougeScorer(["rougeL"])
    pairs = zip(items, predictions, strict=True)
    return [100 * scorer.score(item.answer, prediction)["rougeL"].fmeasure for item, prediction in pairs]


def accuracy(predictions: Sequence[str], items: Sequence[Item]) -> float:
    """Share of the items whose prediction is the answer; case and spacing make no difference."""
    right, said = labels(predictions, items)
    return 100 * float(_library("sklearn.metrics").accuracy_score(right, said))


def macro_f1(predictions: Sequence[str], items: Sequence[Item]) -> float:
    """Mean F1 of the labels that are the answer of at least one item; other predictions are only errors."""
    right, said = labels(predictions, items)
    f1_score = _library("sklearn.metrics").f1_score
    return 100 * float(f1_score(right, said, labels=sorted(set(right)), average="macro", zero_division=0))


def set_f1(predictions: Sequence[str], items: Sequence[Item]) -> float:
    """Micro F1 of "; "-separated mentions. An empty set counts as the one mention "none": right if both are empty."""
    right, said = [mentions(item.answer) for item in items], [mentions(prediction) for prediction in predictions]
    binarizer = _library("sklearn.preprocessing").MultiLabelBinarizer().fit([*right, *said])
    f1_score = _library("sklearn.metrics").f1_score
    return 100 * float(f1_score(binarizer.transform(right), binarizer.transform(said), average="micro"))


_METRICS: dict[str, Callable[[Sequence[str], Sequence[Item]], float]] = {
    "rouge_l": rouge_l,
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "set_f1": set_f1,
}


def score(metric: str, predictions: Sequence[str], items: Sequence[Item]) -> float:
    """0 to 100. Raises MoloraError if the libraries are not installed."""
    return _METRICS[metric](predictions, items)


def labels(predictions: Sequence[str], items: Sequence[Item]) -> tuple[list[str], list[str]]:
    """(answers, predictions), each in one spelling."""
    return [_one_spelling(item.answer) for item in items], [_one_spelling(text) for text in predictions]


def mentions(text: str) -> frozenset[str]:
    """ "Asthma; Fever" -> {"asthma", "fever"}; nothing at all, or "none", -> {"none"}."""
    found = {_one_spelling(part) for part in text.split(";")} - {"", NONE}
    return frozenset(found or {NONE})


def _one_spelling(text: str) -> str:
    return " ".join(text.casefold().split())


def _library(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise MoloraError(
            f"Scores need {error.name}, which is not installed. In the project's folder: pip install --group eval."
        ) from error
