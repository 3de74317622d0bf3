"""`transformers.Trainer` for the adapter alone: its states leave the frozen base out, and resume to the same result."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from molora.training.baselines import told
from molora.training.losses import answer_loss, balance_loss, routings


class Training(nn.Module):
    """A wrapped model whose output is what training lowers, so that one call is all that several GPUs need to share."""

    def __init__(self, network: Any, balance: float) -> None:
        """`balance`: weight of the load-balance loss beside the answers' loss."""
        super().__init__()
        self.network, self.balance = network, balance

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, task: Tensor) -> dict[str, Tensor]:
        batch = {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}
        with routings(self.network) as seen, told(self.network, task):
            total, count = answer_loss(self.network, batch)
        loss = total / count
        if self.balance and seen:
            mask = attention_mask.bool()
            loss = loss + self.balance * torch.stack([balance_loss(routing, mask) for routing in seen]).mean()
        return {"loss": loss}


class AdapterTrainer(Trainer):
    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        folder = Path(output_dir or self.args.output_dir or ".")
        folder.mkdir(parents=True, exist_ok=True)
        save_file(trained(self.model), folder / "trained.safetensors")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        weights = load_file(Path(resume_from_checkpoint) / "trained.safetensors")
        self.model.load_state_dict(weights, strict=False)


class Progress(TrainerCallback):
    """What an interruption must not lose beside the weights: the losses measured first, and the seconds trained."""

    def __init__(self, path: Path) -> None:
        self._path = path
        kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        self.base: dict[str, float] = kept.get("base", {})
        self.before: dict[str, float] = kept.get("before", {})
        self._earlier: float = kept.get("seconds", 0.0)
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        return self._earlier + time.monotonic() - self._started

    def start(self, base: dict[str, float], before: dict[str, float]) -> None:
        self.base, self.before, self._started = base, before, time.monotonic()
        self.on_save()

    def on_save(self, *_args: Any, **_kwargs: Any) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps({"base": self.base, "before": self.before, "seconds": self.seconds}))


def trained(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that training changes, by name."""
    return {name: p.data.contiguous() for name, p in model.named_parameters() if p.requires_grad}


def checkpoint_activations(model: Any) -> None:
    """Less memory for time: blocks are computed anew in the backward pass. transformers renamed it during version 5."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})  # the other kind takes a frozen base for nothing to train


def last_complete(state: Path) -> str | None:
    """The newest state that was written to its end: Trainer writes `trainer_state.json` last."""
    states = [path.parent for path in state.glob("checkpoint-*/trainer_state.json")]
    return str(max(states, key=lambda path: int(path.name.rpartition("-")[2]))) if states else None


def trainer_arguments(args: argparse.Namespace, state: Path) -> TrainingArguments:
    """What `python -m molora.train` was asked for, as the Trainer reads it."""
    return TrainingArguments(
        output_dir=str(state),
        max_steps=args.steps,
        per_device_train_batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=20,
        max_grad_norm=1.0,
        train_sampling_strategy="group_by_length",
        logging_steps=5,
        save_steps=args.save_steps,
        save_total_limit=2,
        seed=args.seed,
        report_to=[],
        remove_unused_columns=False,
        label_names=["labels"],
        use_cpu=not torch.cuda.is_available(),
        bf16=args.precision == "bf16",
    )
