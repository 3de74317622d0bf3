"""The systems that are compared: how each is trained, and how each is opened to answer the same items.

Whatever is compared with a MoLoRA checkpoint is trained as it was, by what its `training.json` says: the same data,
steps and seed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from molora.base import load_base, skeleton
from molora.checkpoint import fill, read_checkpoint
from molora.checkpoint_files import PARTS
from molora.config import ATTENTION_PROJECTIONS, EXPERT_PROJECTIONS
from molora.errors import MoloraError
from molora.train import parse, run
from molora.training.baselines import tell_tasks, told, weigh_evenly
from molora.wheels import sha256_of
from molora.wrap import wrap


class Spec(NamedTuple):
    says: str
    """What it is, for a table"""
    weights: Literal["none", "molora", "own"]
    """Whose weights it has: the base's alone, those of the compared MoLoRA, or some trained for the comparison"""
    size: Literal["mixture", "total", "active"] = "mixture"
    """A plain LoRA has as many weights as the mixture in all, or as many as work on one token"""
    router: Literal["token", "task", "even"] = "token"


SYSTEMS = {
    "base": Spec("the base alone", "none"),
    "lora_total": Spec("one LoRA with as many weights as MoLoRA", "own", size="total"),
    "lora_active": Spec("one LoRA with as many weights as MoLoRA uses on a token", "own", size="active"),
    "molora": Spec("MoLoRA", "molora"),
    "molora_uniform": Spec("the same MoLoRA with all experts weighed alike", "molora", router="even"),
    "oracle": Spec("MoLoRA whose routers are told the task", "own", router="task"),
}

_KEPT = ("tasks", "precision", "dropout", "balance", "steps", "batch_size", "max_length", "learning_rate", "seed")
"""Settings that all trained systems share."""


@dataclass(frozen=True)
class System:
    """A model that answers items of tasks."""

    name: str
    model: Any
    tokenizer: Any
    tasks: tuple[str, ...] | None = None
    """For routers that are told the task: the tasks by the numbers of their training"""

    @contextmanager
    def on(self, task: str) -> Iterator[None]:
        """Whatever the system needs to know while it answers items of one task.

        Raises MoloraError for a task that its routers were not told of in training.
        """
        if self.tasks is None:
            yield
            return
        if task not in self.tasks:
            raise MoloraError(f"{self.name} was not trained on {task}; leave the task out, or train on it.")
        with told(self.model, torch.tensor([self.tasks.index(task)])):
            yield


@dataclass(frozen=True)
class Suite:
    """A MoLoRA checkpoint and what is compared with it."""

    molora: Path
    """Folder of the checkpoint, with its training.json"""
    work: Path
    """Where the other systems are trained, each in a folder of its name"""
    data: Path | None
    """Folder with the data sets"""

    def folder(self, name: str) -> Path:
        return self.molora if SYSTEMS[name].weights == "molora" else self.work / name

    def fingerprint(self, name: str) -> str | None:
        """Of the system's weights and the precision they answer in; None where it has not been trained."""
        precision = self._training()["settings"]["precision"]
        if SYSTEMS[name].weights == "none":
            return precision
        files = [self.folder(name) / f"{part}.safetensors" for part in PARTS]
        found = [sha256_of(file) for file in files if file.is_file()]
        return " ".join([precision, *found]) if found else None

    def open(self, name: str) -> System:
        """The system, trained first if it has not been. Interrupted, its training goes on at the next call.

        All systems answer in the precision that MoLoRA was trained in.

        Raises MoloraError if a checkpoint is missing or damaged, or something is missing for its training.
        """
        spec, folder = SYSTEMS[name], self.folder(name)
        training = self._training()
        if spec.weights == "own" and not (folder / "README.md").is_file():  # the card is written last
            options = training_options(spec, training)
            where = ["--out", str(folder), *(["--data", str(self.data)] if self.data else [])]
            print(f"Training {name}: {spec.says}", flush=True)
            run(parse([*options, *where]))
        dtype = torch.bfloat16 if training["settings"]["precision"] == "bf16" else None
        model, tokenizer = load_base(training["base"], dtype=dtype)
        if spec.weights == "none":
            return System(name, model.eval(), tokenizer)
        checkpoint = read_checkpoint(folder)
        wrap(model, checkpoint.config, model.dtype)
        tasks = None
        if spec.router == "task":
            tasks = tuple(json.loads((folder / "training.json").read_text(encoding="utf-8"))["tasks"])
            tell_tasks(model, len(tasks))
        fill(checkpoint, model)
        if spec.router == "even":
            weigh_evenly(model)
        return System(name, model.eval(), tokenizer, tasks)

    def _training(self) -> dict[str, Any]:
        path = self.molora / "training.json"
        try:
            training: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise MoloraError(
                f"{path} cannot be read ({error}); it tells how the systems that are compared are trained. Give the "
                "folder of a checkpoint that python -m molora.train made."
            ) from error
        return training


def training_options(spec: Spec, training: dict[str, Any]) -> list[str]:
    """The options of `python -m molora.train` for a system beside the MoLoRA that `training` tells of."""
    settings = training["settings"]
    experts, rank = settings["experts"], settings["rank"]
    if spec.size != "mixture":
        top_k = settings["top_k"] if spec.size == "active" else None
        experts, rank = 1, plain_rank(skeleton(training["base"]), experts, rank, top_k)
    options = {key: settings[key] for key in _KEPT} | {
        "base": training["base"],
        "experts": experts,
        "top_k": min(settings["top_k"], experts),
        "rank": rank,
        "alpha": settings["alpha"] / settings["rank"] * rank,  # the same scale for all
        "router": spec.router,
    }
    return [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]


def plain_rank(model: nn.Module, experts: int, rank: int, top_k: int | None) -> int:
    """The rank of a plain LoRA on attention and FFN with as many weights as a mixture has; with `top_k`, as many as
    those of its low-rank matrices that work on one token."""
    attention = ffn = routers = 0  # weights for each rank, and of the routers
    for name, linear in model.named_modules():
        if isinstance(linear, nn.Linear):
            leaf, across = name.rpartition(".")[2], linear.in_features + linear.out_features
            attention += across * (leaf in ATTENTION_PROJECTIONS)
            ffn += across * (leaf in EXPERT_PROJECTIONS)
            routers += experts * (linear.in_features + 1) * (leaf in EXPERT_PROJECTIONS)
    if not ffn:
        raise MoloraError(f"{type(model).__name__} has no gated MLP with {', '.join(EXPERT_PROJECTIONS)}.")
    mixture = rank * (attention + (top_k or experts) * ffn) + (0 if top_k else routers)
    return round(mixture / (attention + ffn))
