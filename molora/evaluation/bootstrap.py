"""Percentile bootstrap over a task's items, the same resampled items for every system.

Every metric is a function of sums over items, so a resample is a product of how often each item was drawn with what
each item adds: thousands of resamples of a task take milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from molora.evaluation.scores import labels, mentions, rouge_l_each
from molora.tasks import Item

RESAMPLES = 1000

Array = NDArray[np.float64]


class Interval(NamedTuple):
    low: float
    high: float


class Statistics(NamedTuple):
    """What each item adds, and the score of their sums."""

    added: Array
    """[N, S]"""
    score: Callable[[Array], Array]
    """[..., S] -> [...], 0 to 100"""


def statistics(metric: str, predictions: Sequence[str], items: Sequence[Item]) -> Statistics:
    """Sufficient for `molora.evaluation.scores.score` on any choice of the items with repetition."""
    return _METRICS[metric](predictions, items)


def draws(count: int, seed: int, task: str) -> Array:
    """How often each resample holds each item [R, N]. Depends on seed and task alone: systems share their resamples."""
    rng = np.random.default_rng([seed, *task.encode()])
    return rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(np.float64)


def resampled(found: Statistics, drawn: Array) -> Array:
    """The score of every resample [R]."""
    return found.score(drawn @ found.added)


def interval(scores: Array) -> Interval:
    """The middle 95% of the resamples' scores [R]."""
    low, high = np.percentile(scores, [2.5, 97.5])
    return Interval(float(low), float(high))


def _rouge_l(predictions: Sequence[str], items: Sequence[Item]) -> Statistics:
    each = np.array(rouge_l_each(predictions, items))  # [N]
    return Statistics(np.stack([each / 100, np.ones_like(each)], axis=-1), _share)


def _accuracy(predictions: Sequence[str], items: Sequence[Item]) -> Statistics:
    answers, said = map(np.array, labels(predictions, items))
    hits = (answers == said).astype(np.float64)  # [N]
    return Statistics(np.stack([hits, np.ones_like(hits)], axis=-1), _share)


def _macro_f1(predictions: Sequence[str], items: Sequence[Item]) -> Statistics:
    answers, said = labels(predictions, items)
    known: NDArray[Any] = np.array(sorted(set(answers)))  # [C]
    right, claimed = (np.array(texts)[:, None] == known for texts in (answers, said))  # [N, C]
    counts = np.concatenate([right & claimed, right, claimed], axis=-1).astype(np.float64)  # [N, 3 * C]
    return Statistics(counts, _mean_f1)


def _set_f1(predictions: Sequence[str], items: Sequence[Item]) -> Statistics:
    pairs = [(mentions(item.answer), mentions(text)) for item, text in zip(items, predictions, strict=True)]
    counts = [(2 * len(right & said), len(right) + len(said)) for right, said in pairs]
    return Statistics(np.array(counts, np.float64), _share)


def _share(sums: Array) -> Array:
    return 100 * sums[..., 0] / sums[..., 1]


def _mean_f1(sums: Array) -> Array:
    """Over the labels that are the answer of an item drawn: another resample may have fewer of them."""
    hits, right, claimed = np.split(sums, 3, axis=-1)  # [..., C]
    present = right > 0
    f1 = np.divide(2 * hits, right + claimed, out=np.zeros_like(hits), where=present)
    return 100 * f1.sum(-1) / present.sum(-1)


_METRICS: dict[str, Callable[[Sequence[str], Sequence[Item]], Statistics]] = {
    "rouge_l": _rouge_l,
    "accuracy": _accuracy,
    "macro_f1": _macro_f1,
    "set_f1": _set_f1,
}
