"""Do the routers tell tasks apart? Mutual information, task recovery and load, from an Atlas. Knows numpy only.

Axes: N prompts, G tasks, L layers, P projections, E experts.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from molora.analysis import rounded
from molora.atlas.data import Atlas, Part, shares

SHUFFLES = 20
"""Shufflings of the labels that the baseline is drawn from."""
DEAD = 0.1
"""An expert that is picked less often than this share of the uniform share 1 / E is called dead."""


class Information(NamedTuple):
    """Normalised mutual information between task and picked expert, router by router."""

    nmi: NDArray[np.float64]
    """[L, P]"""
    shuffled_mean: NDArray[np.float64]
    """[L, P], over shufflings of the labels"""
    shuffled_max: NDArray[np.float64]
    """[L, P]"""


class Recovery(NamedTuple):
    """The task told from the routing of one prompt."""

    accuracy: float
    """NaN if no task has two prompts"""
    chance: float
    """1 / tasks"""
    by_task: NDArray[np.float64]
    """[G]; NaN for a task with fewer than two prompts"""
    prompts: int
    """Prompts that were told"""


def normalised_mutual_information(counts: NDArray[Any]) -> NDArray[np.float64]:
    """I(T; E) / sqrt(H(T) H(E)) of joint counts [..., G, E] of task and picked expert [...].

    0: the expert says nothing about the task. 1: each task has an expert of its own. With fewer experts than tasks it
    cannot reach 1. Geometric mean as in Strehl and Ghosh, "Cluster ensembles", JMLR 3 (2002), eq. 2; 0 where either
    entropy is 0. Estimated from counts it is biased upwards, and picks of one prompt are not independent: compare with
    labels shuffled over prompts, not with 0.
    """
    joint = np.asarray(counts, np.float64)
    with np.errstate(invalid="ignore"):
        joint = np.nan_to_num(joint / joint.sum(axis=(-2, -1), keepdims=True))  # [..., G, E]
    tasks, experts = _entropy(joint.sum(axis=-1)), _entropy(joint.sum(axis=-2))  # [...]
    information = tasks + experts - _entropy(joint.reshape(*joint.shape[:-2], -1))
    scale = np.sqrt(tasks * experts)
    known = scale > 1e-12
    return np.where(known, np.clip(information / np.where(known, scale, 1), 0, 1), 0.0)


@lru_cache(maxsize=8)
def information(atlas: Atlas, part: Part = "both", seed: int = 0) -> Information:
    """Of every router, beside `SHUFFLES` shufflings of the labels over prompts.

    Labels are shuffled over whole prompts, not over tokens: tokens of one prompt resemble each other whatever its task,
    and shuffling them would make every grouping look like knowledge of tasks. Every pick counts alike, so tasks with
    long prompts count for more.
    """
    rng = np.random.default_rng(seed)
    labels = [atlas.labels, *(rng.permutation(atlas.labels) for _ in range(SHUFFLES))]
    member = np.eye(len(atlas.tasks))[np.stack(labels)].transpose(0, 2, 1)  # [1 + SHUFFLES, G, N]
    joint = np.tensordot(member, atlas.prompt_counts(part), axes=1)  # [1 + SHUFFLES, G, L, P, E]
    values = normalised_mutual_information(np.moveaxis(joint, 1, 3))  # [1 + SHUFFLES, L, P]
    return Information(values[0], values[1:].mean(axis=0), values[1:].max(axis=0))


@lru_cache(maxsize=8)
def recovery(atlas: Atlas, part: Part = "both") -> Recovery:
    """Nearest centroid of one prompt's mean routing over all routers, leaving that prompt out of its task's centroid.

    Nearest by `similarity`. Prompts without a token of this part, and tasks with a single prompt, are left out.
    (Rocchio's classifier: Manning, Raghavan and Schütze, "Introduction to Information Retrieval", 2008, 14.2.)
    """
    rows, labels = _rows(atlas, part)
    sizes = np.bincount(labels, minlength=len(atlas.tasks)).astype(np.float64)  # [G]
    sums = np.zeros((len(atlas.tasks), rows.shape[1]))
    np.add.at(sums, labels, rows)
    right = np.zeros(len(atlas.tasks))
    there = sizes > 0
    for row, label in zip(rows, labels, strict=True):
        if sizes[label] < 2:
            continue
        others, left = sums.copy(), sizes.copy()
        others[label] -= row
        left[label] -= 1
        found = similarity(row, others[there] / left[there, None])
        right[label] += np.flatnonzero(there)[found.argmax()] == label
    told = np.where(sizes > 1, sizes, 0)
    with np.errstate(invalid="ignore"):
        by_task = np.where(told > 0, right / told, np.nan)
        accuracy = float(right.sum() / told.sum()) if told.any() else float("nan")
    return Recovery(accuracy, 1 / max(int(there.sum()), 1), by_task, int(told.sum()))


def similarity(profile: NDArray[np.float64], centroids: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine of a routing [D] and of each centroid [G, D], both as deviations from the centroids' mean; -1 to 1 [G].

    Without that mean all would be alike: every router spreads its picks over all experts. 0 without a deviation.
    """
    mean = centroids.mean(axis=0)
    one, all_ = profile - mean, centroids - mean
    lengths = np.linalg.norm(all_, axis=1) * np.linalg.norm(one)
    known = lengths > 1e-12
    return np.where(known, all_ @ one / np.where(known, lengths, 1), 0.0)


def place(profile: NDArray[np.float64], atlas: Atlas, part: Part) -> NDArray[np.float64]:
    """How near a routing [L, P, E] (shares, as `analysis.load` gives them) is to each task: `similarity` [G].

    NaN for a task without a token of this part, and where the routing has none.
    """
    rows, labels = _rows(atlas, part)
    near = np.full(len(atlas.tasks), np.nan)
    present = np.unique(labels)
    flat = profile.reshape(-1)
    if len(present) and flat.shape == rows.shape[1:] and not np.isnan(flat).any():
        near[present] = similarity(flat, np.stack([rows[labels == label].mean(axis=0) for label in present]))
    return near


def task_shares(atlas: Atlas, part: Part = "both") -> NDArray[np.float64]:
    """Each task's share of picks by expert [G, E], the mean over routers; NaN for a task without picks."""
    return shares(atlas.counts(part)).mean(axis=(1, 2))


def load(atlas: Atlas, part: Part = "both") -> NDArray[np.float64]:
    """Each expert's share of picks [L, P, E], the mean over tasks, so that tasks with long prompts weigh no more."""
    of_tasks = shares(atlas.counts(part))  # [G, L, P, E]
    return of_tasks[~np.isnan(of_tasks).any(axis=(1, 2, 3))].mean(axis=0)


def dead_experts(atlas: Atlas) -> list[tuple[int, str, int, float]]:
    """(layer, projection, expert, load) of every expert whose load is below `DEAD` / E."""
    shares_ = load(atlas)
    return [
        (int(atlas.layer_indices[layer]), atlas.projections[at], int(expert), float(shares_[layer, at, expert]))
        for layer, at, expert in np.argwhere(shares_ < DEAD / atlas.num_experts)
    ]


def report(atlas: Atlas, seed: int = 0) -> dict[str, Any]:
    """The atlas in numbers, as plain values for JSON. Figures on top are of prompt tokens; `parts` has all.

    `nmi` is the mean over routers; `nmi_shuffled_max` the mean over routers of each router's highest baseline.
    """
    parts = {part: _part_report(atlas, part, seed) for part in ("prompt", "answer", "both")}
    keys = ("nmi", "nmi_shuffled", "nmi_shuffled_max", "task_recovery", "task_recovery_chance")
    spread = load(atlas)
    return {
        **{key: parts["prompt"][key] for key in keys},
        "tasks": {
            task: {"family": family, "prompts": int((atlas.labels == at).sum())}
            for at, (task, family) in enumerate(zip(atlas.tasks, atlas.families, strict=True))
        },
        "parts": parts,
        "layers": atlas.layer_indices.tolist(),
        "load": {name: rounded(spread[:, at]) for at, name in enumerate(atlas.projections)},
        "dead_below": round(DEAD / atlas.num_experts, 6),
        "dead_experts": [
            {"layer": layer, "projection": name, "expert": expert, "load": round(value, 4)}
            for layer, name, expert, value in dead_experts(atlas)
        ],
        "settings": atlas.meta.get("settings"),
        "meta": {key: value for key, value in atlas.meta.items() if key not in ("settings", "prompts")},
    }


def _part_report(atlas: Atlas, part: Part, seed: int) -> dict[str, Any]:
    known, told = information(atlas, part, seed), recovery(atlas, part)
    layer, at = np.unravel_index(known.nmi.argmax(), known.nmi.shape)
    tables = {"nmi_by_layer": known.nmi, "nmi_shuffled_by_layer": known.shuffled_mean}
    return {
        "nmi": rounded(known.nmi.mean()),
        "nmi_shuffled": rounded(known.shuffled_mean.mean()),
        "nmi_shuffled_max": rounded(known.shuffled_max.mean()),
        "nmi_highest": {
            "layer": int(atlas.layer_indices[layer]),
            "projection": atlas.projections[at],
            "nmi": rounded(known.nmi[layer, at]),
            "nmi_shuffled": rounded(known.shuffled_mean[layer, at]),
        },
        "task_recovery": rounded(told.accuracy),
        "task_recovery_chance": rounded(told.chance),
        "task_recovery_prompts": told.prompts,
        "task_recovery_by_task": dict(zip(atlas.tasks, rounded(told.by_task), strict=True)),
        **{
            key: {name: rounded(table[:, number]) for number, name in enumerate(atlas.projections)}
            for key, table in tables.items()
        },
    }


def _rows(atlas: Atlas, part: Part) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
    """The prompts' routing as rows [n, L * P * E], with their labels [n]; without those that have no picks."""
    rows = atlas.profiles(part).reshape(len(atlas.labels), -1)
    known = ~np.isnan(rows).any(axis=1)
    return rows[known], atlas.labels[known]


def _entropy(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """In nats, over the last axis."""
    return -(share * np.log(np.where(share > 0, share, 1))).sum(axis=-1)
