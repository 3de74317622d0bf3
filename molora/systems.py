"""The systems that are compared: how each is trained, and how each is opened to answer the same items."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from molora.baselines import tell_tasks, told, weigh_evenly
from molora.checkpoint import fill, read_checkpoint
from molora.config import ATTENTION_PROJECTIONS, EXPERT_PROJECTIONS
from molora.errors import MoloraError
from molora.loading import load_base, skeleton
from molora.wrap import wrap

EXPERTS, TOP_K, RANK = 8, 2, 8
"""The mixture that is compared: as in MING-MOE, at half its rank."""
SCALING = 2.0
"""LoRA alpha / r, the same for all systems."""


class Spec(NamedTuple):
    says: str
    """What it is, for a table's legend"""
    trained_as: str | None
    """Whose training it shares; None for the base alone"""
    router: Literal["token", "task"] = "token"
    size: Literal["mixture", "total", "active"] = "mixture"
    """A plain LoRA has as many trained weights as the mixture in all, or as many as work on one token"""
    evenly: bool = False
    """All experts weighed alike when it answers"""


SYSTEMS = {
    "base": Spec("the base alone", None),
    "lora_total": Spec("one LoRA with as many trained weights as MoLoRA", "lora_total", size="total"),
    "lora_active": Spec("one LoRA with as many weights as MoLoRA uses for a token", "lora_active", size="active"),
    "molora": Spec("MoLoRA: routers that read the token", "molora"),
    "molora_uniform": Spec("the same MoLoRA with all experts weighed alike", "molora", evenly=True),
    "oracle": Spec("MoLoRA whose routers are told the task", "oracle", router="task"),
}


@dataclass(frozen=True)
class System:
    """A model that answers items of tasks."""

    name: str
    model: Any
    tokenizer: Any
    tasks: tuple[str, ...] = ()
    """The tasks by the numbers that a router was told while it was trained"""

    @contextmanager
    def on(self, task: str) -> Iterator[None]:
        """Whatever the system needs to know while it answers items of one task.

        Raises MoloraError for a task that routers were not told of in training.
        """
        if self.name != "oracle":
            yield
            return
        if task not in self.tasks:
            raise MoloraError(f"The oracle was not trained on {task}; train it anew on all tasks that are evaluated.")
        with told(self.model, torch.tensor([self.tasks.index(task)])):
            yield


def training_options(name: str, base: str) -> list[str]:
    """The options of `python -m molora.train` that make a trained system what it is. Raises MoloraError if the base
    cannot carry MoLoRA."""
    spec = SYSTEMS[name]
    experts, rank = EXPERTS, RANK
    if spec.size != "mixture":
        experts, rank = 1, plain_rank(skeleton(base), spec.size == "active")
    options = {"experts": experts, "top-k": min(TOP_K, experts), "rank": rank, "alpha": SCALING * rank}
    return [f"--{key}={value}" for key, value in options.items()] + [f"--router={spec.router}"]


def plain_rank(model: nn.Module, active: bool) -> int:
    """The rank of a plain LoRA on attention and FFN with as many weights as the mixture; `active`: as those of the
    mixture that work on one token, its routers left out."""
    attention = ffn = routers = 0
    for name, linear in model.named_modules():
        if isinstance(linear, nn.Linear):
            leaf, across = name.rpartition(".")[2], linear.in_features + linear.out_features
            attention += across * (leaf in ATTENTION_PROJECTIONS)
            ffn += across * (leaf in EXPERT_PROJECTIONS)
            routers += EXPERTS * (linear.in_features + 1) * (leaf in EXPERT_PROJECTIONS)
    if not ffn:
        raise MoloraError(f"{type(model).__name__} has no gated MLP with {', '.join(EXPERT_PROJECTIONS)}.")
    mixture = RANK * (attention + (TOP_K if active else EXPERTS) * ffn) + (0 if active else routers)
    return round(mixture / (attention + ffn))


def open_system(name: str, folder: Path, base: str) -> System:
    """The system, trained in `folder`, on its base. Raises MoloraError if the folder does not hold it."""
    model, tokenizer = load_base(base)
    spec = SYSTEMS[name]
    if spec.trained_as is None:
        return System(name, model.eval(), tokenizer)
    checkpoint = read_checkpoint(folder)
    wrap(model, checkpoint.config, model.dtype)
    tasks: tuple[str, ...] = ()
    if spec.router == "task":
        tasks = tuple(json.loads((folder / "training.json").read_text(encoding="utf-8"))["tasks"])
        tell_tasks(model, len(tasks))
    fill(checkpoint, model)
    if spec.evenly:
        weigh_evenly(model)
    return System(name, model.eval(), tokenizer, tasks)
