"""Atlas: how the routers of one model treated the prompts of many tasks, as plain arrays. Knows numpy only.

Axes: N prompts, G tasks, S sides (prompt, answer), L layers, P projections, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from molora.errors import MoloraError
from molora.npz import Layout
from molora.trace import ANSWER, PROMPT

Part = Literal["both", "prompt", "answer"]
SIDES = (PROMPT, ANSWER)
"""What the axis S counts; the chat template's own tokens are the same for every task and are left out."""

ATLASES = Path(__file__).parents[2] / "assets" / "atlas"
"""Where the page looks: a folder a model, with `atlas.npz` and `atlas.json`."""

_LAYOUT = Layout(
    kind="atlas",
    arrays={
        "labels": (np.int16, "N"),
        "picks": (np.uint16, "NSLPE"),
        "weights": (np.float32, "GSLPE"),
        "layer_indices": (np.int16, "L"),
    },
    texts={"tasks": list, "families": list, "projections": list, "meta": dict},
    version=1,
    mend="Make it again with python -m molora.atlas.",
)


@dataclass(frozen=True, eq=False)
class Atlas:
    """Picks are kept prompt by prompt, so that labels can be shuffled over prompts and prompts be told apart."""

    tasks: tuple[str, ...]
    families: tuple[str, ...]
    """[G], each task's"""
    labels: NDArray[np.int16]
    """[N], each prompt's task"""
    picks: NDArray[np.uint16]
    """[N, S, L, P, E], how often each expert was picked"""
    weights: NDArray[np.float32]
    """[G, S, L, P, E], the applied weights of the same picks, summed over a task's prompts"""
    layer_indices: NDArray[np.int16]
    """[L], the model's own numbers"""
    projections: tuple[str, ...]
    meta: dict[str, Any] = field(default_factory=dict)
    """model, base, adapter sha256, quantization, dtype, device, versions; `settings`: what the atlas was made with;
    `prompts`: task -> checksum of its prompts"""

    def __post_init__(self) -> None:
        """Raises MoloraError naming what does not agree."""
        _LAYOUT.check(self, {"G": len(self.tasks), "P": len(self.projections), "S": len(SIDES)})
        if len(self.families) != len(self.tasks):
            raise MoloraError(f"The atlas has {len(self.families)} families for {len(self.tasks)} tasks.")
        if (wrong := (self.labels < 0) | (self.labels >= len(self.tasks))).any():
            raise MoloraError(f"labels holds {self.labels[wrong][0]}; expected 0 to {len(self.tasks) - 1}.")

    @property
    def num_experts(self) -> int:
        return self.picks.shape[4]

    def prompt_counts(self, part: Part = "both") -> NDArray[np.int64]:
        """Picks of each prompt [N, L, P, E]."""
        return self.picks[:, _sides(part)].sum(axis=1, dtype=np.int64)

    def counts(self, part: Part = "both") -> NDArray[np.int64]:
        """Picks of each task [G, L, P, E]."""
        of_prompts = self.prompt_counts(part)
        counts = np.zeros((len(self.tasks), *of_prompts.shape[1:]), np.int64)
        np.add.at(counts, self.labels, of_prompts)
        return counts

    def profiles(self, part: Part = "both") -> NDArray[np.float64]:
        """Each prompt's mean routing [N, L, P, E]: shares of a router's picks, their sum is 1; NaN without any pick."""
        return shares(self.prompt_counts(part))

    def weight_shares(self, part: Part = "both") -> NDArray[np.float64]:
        """Each task's applied weight [G, L, P, E] as shares of a router's sum; NaN without any pick."""
        return shares(self.weights[:, _sides(part)].sum(axis=1, dtype=np.float64))

    def select(self, *, layers: list[int] | None = None, projections: list[str] | None = None) -> Atlas:
        """The part for some layers (the model's own numbers) and projections; None means all.

        Raises MoloraError for one that the atlas does not have.
        """
        rows = _positions("layer", self.layer_indices.tolist(), layers)
        columns = _positions("projection", list(self.projections), projections)
        return replace(
            self,
            picks=self.picks[:, :, rows][:, :, :, columns],
            weights=self.weights[:, :, rows][:, :, :, columns],
            layer_indices=self.layer_indices[rows],
            projections=tuple(self.projections[at] for at in columns),
        )

    def of_tasks(self, tasks: list[str]) -> Atlas:
        """The part for some of its tasks, in the order asked."""
        at = [self.tasks.index(task) for task in tasks]
        rows = np.concatenate([np.flatnonzero(self.labels == old) for old in at]).astype(np.int64)
        return replace(
            self,
            tasks=tuple(tasks),
            families=tuple(self.families[old] for old in at),
            labels=np.array([at.index(old) for old in self.labels[rows]], np.int16),
            picks=self.picks[rows],
            weights=self.weights[at],
            meta=self.meta | {"prompts": {task: self.meta.get("prompts", {}).get(task) for task in tasks}},
        )

    def joined(self, other: Atlas) -> Atlas:
        """Its tasks and then those of `other`, an atlas of the same model that shares no task with it."""
        return replace(
            self,
            tasks=self.tasks + other.tasks,
            families=self.families + other.families,
            labels=np.concatenate([self.labels, other.labels + np.int16(len(self.tasks))]),
            picks=np.concatenate([self.picks, other.picks]),
            weights=np.concatenate([self.weights, other.weights]),
            meta=self.meta | {"prompts": self.meta.get("prompts", {}) | other.meta.get("prompts", {})},
        )

    def save(self, path: str | Path | IO[bytes]) -> None:
        """Writes a compressed `.npz` of plain arrays; texts are JSON in UTF-8 bytes. No pickle inside."""
        _LAYOUT.save(self, path)

    @classmethod
    def load(cls, path: str | Path | IO[bytes]) -> Atlas:
        """Reads what `save` wrote. Raises MoloraError if the file is missing, damaged, or no atlas."""
        arrays, texts = _LAYOUT.load(path)
        names: dict[str, Any] = {name: tuple(texts[name]) for name in ("tasks", "families", "projections")}
        try:
            return cls(**arrays, **names, meta=texts["meta"])
        except MoloraError as error:
            raise MoloraError(f"{path}: {error}") from error


def find_atlas(adapter_sha256: str, folder: Path = ATLASES, base: str = "") -> Atlas | None:
    """The atlas below `folder` that was made with this very adapter; None if there is none.

    A model without an adapter ("") is known by its name, which is its own base.

    Raises MoloraError if there is none, but a file that cannot be read.
    """
    damage: MoloraError | None = None
    for path in sorted(folder.glob("*/atlas.npz")):
        try:
            atlas = Atlas.load(path)
        except MoloraError as error:
            damage = error
            continue
        if atlas.meta.get("adapter_sha256") == adapter_sha256 and (adapter_sha256 or atlas.meta.get("base") == base):
            return atlas
    if damage:
        raise damage
    return None


def shares(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Counts [..., E] as shares of their sum over E; NaN where that is 0."""
    with np.errstate(invalid="ignore"):
        return counts / counts.sum(axis=-1, keepdims=True)


def _sides(part: Part) -> list[int]:
    return {"both": [0, 1], "prompt": [0], "answer": [1]}[part]


def _positions(what: str, known: list[Any], wanted: list[Any] | None) -> list[int]:
    if missing := [name for name in wanted or [] if name not in known]:
        raise MoloraError(f"The atlas has no {what} {missing[0]!r}; it has {', '.join(map(str, known))}.")
    return list(range(len(known))) if wanted is None else [known.index(name) for name in wanted]
