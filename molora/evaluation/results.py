"""What the suite found, as one JSON value: scores by task, by family and over all, each with its 95% interval.

Means over tasks count every task alike. Every task is resampled on its own; systems share the resampled items, so that
the interval of a difference is that of paired items.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from molora.evaluation.bootstrap import RESAMPLES, Array, draws, interval, resampled, statistics
from molora.evaluation.scores import score
from molora.tasks import Item, Task

SUBJECT = "molora"
"""The system that the others are compared with."""

ROUTING = ("nmi", "nmi_shuffled", "task_recovery", "task_recovery_chance")

Predictions = dict[str, dict[str, list[str]]]
"""system -> task -> one answer an item"""


class Size(NamedTuple):
    """Parameters of a system."""

    trained: int
    total: int


class _Scored(NamedTuple):
    score: float
    samples: Array
    """[R]"""

    def rounded(self, key: str = "score") -> dict[str, float]:
        low, high = interval(self.samples)
        return {key: round(self.score, 2), "low": round(low, 2), "high": round(high, 2)}


def results(
    tasks: Sequence[Task],
    items: dict[str, list[Item]],
    predictions: Predictions,
    sizes: dict[str, Size],
    seed: int,
    routing: dict[str, float] | None = None,
) -> dict[str, Any]:
    """The content of `results.json`; `routing` is that of the atlas, if one was made."""
    table = {task.name: _task(task, items[task.name], predictions, seed) for task in tasks}
    families = list(dict.fromkeys(task.family for task in tasks))
    macro = _means(table, [task.name for task in tasks])
    subject = sizes.get(SUBJECT)
    return {
        "tasks": {
            task.name: {
                "family": task.family,
                "source": task.source,
                "metric": task.metric,
                "n": len(items[task.name]),
                "systems": _rounded(table[task.name]),
            }
            for task in tasks
        },
        "families": {
            family: {
                "tasks": sum(task.family == family for task in tasks),
                "systems": _rounded(_means(table, [task.name for task in tasks if task.family == family])),
            }
            for family in families
        },
        "macro": _rounded(macro),
        "paired": _paired(macro),
        "routing": routing,
        "trained_parameters": subject.trained if subject else None,
        "total_parameters": subject.total if subject else None,
        "systems": {
            name: {"trained_parameters": size.trained, "total_parameters": size.total} for name, size in sizes.items()
        },
        "bootstrap": {"resamples": RESAMPLES, "seed": seed},
    }


def _task(task: Task, items: list[Item], predictions: Predictions, seed: int) -> dict[str, _Scored]:
    drawn = draws(len(items), seed, task.name)
    return {
        system: _Scored(
            score(task.metric, said[task.name], items),
            resampled(statistics(task.metric, said[task.name], items), drawn),
        )
        for system, said in predictions.items()
    }


def _means(table: dict[str, dict[str, _Scored]], names: Sequence[str]) -> dict[str, _Scored]:
    return {
        system: _Scored(
            float(np.mean([table[name][system].score for name in names])),
            np.mean([table[name][system].samples for name in names], axis=0),
        )
        for system in table[names[0]]
    }


def _paired(macro: dict[str, _Scored]) -> dict[str, dict[str, float]]:
    """`molora-base` and so on: how far the mean over tasks lies above the other system's."""
    if SUBJECT not in macro:
        return {}
    subject = macro[SUBJECT]
    return {
        f"{SUBJECT}-{name}": _Scored(subject.score - other.score, subject.samples - other.samples).rounded("difference")
        for name, other in macro.items()
        if name != SUBJECT
    }


def _rounded(scored: dict[str, _Scored]) -> dict[str, dict[str, float]]:
    return {system: found.rounded() for system, found in scored.items()}
