"""A made-up atlas in which each task has experts of its own, or none has."""

from __future__ import annotations

from typing import Any

import numpy as np

from molora.atlas.data import Atlas
from tests.fakes import INFO, PROJECTIONS

TASKS = ("ask", "sort", "list", "find")
FAMILIES = ("generation", "classification", "extraction", "extraction")


def fake_atlas(
    *,
    tasks: tuple[str, ...] = TASKS,
    families: tuple[str, ...] = FAMILIES,
    prompts: int = 5,
    layers: int = 4,
    projections: tuple[str, ...] = PROJECTIONS,
    experts: int = 8,
    preference: float = 1.0,
    tokens: int = 40,
    seed: int = 0,
    **changes: Any,
) -> Atlas:
    """Prompts of `tokens` tokens, answers of half as many, one expert picked for each; task g prefers expert g.

    preference: how much more often a task picks its expert than the others; 0 makes all tasks alike.
    changes: fields of the Atlas to put in place of these.
    """
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(tasks)), prompts).astype(np.int16)
    chances = np.ones((len(tasks), experts))
    chances[np.arange(len(tasks)), np.arange(len(tasks)) % experts] += preference * experts
    chances /= chances.sum(axis=1, keepdims=True)
    routers = (layers, len(projections))
    picks = np.stack(
        [
            np.stack([rng.multinomial(count, chances[label], size=routers) for count in (tokens, tokens // 2)])
            for label in labels
        ]
    )  # [N, S, L, P, E]
    fields = {
        "tasks": tasks,
        "families": families,
        "labels": labels,
        "picks": picks.astype(np.uint16),
        "weights": np.stack([picks[labels == task].sum(axis=0) for task in range(len(tasks))]).astype(np.float32) / 2,
        "layer_indices": np.arange(layers, dtype=np.int16),
        "projections": projections,
        "meta": {"model": "fake", "adapter_sha256": INFO.adapter_sha256, "settings": {}, "prompts": {}},
    }
    return Atlas(**(fields | changes))
