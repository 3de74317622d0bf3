"""`python -m molora.train`: trains MoLoRA on the FFN and LoRA on the attention of a frozen base.

Loss on answers only, and logits only where there is loss. Interrupted, it resumes where it last saved.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import Trainer, TrainerCallback, TrainingArguments

from molora.card import model_card
from molora.checkpoint import Checkpoint, fill, read_checkpoint, write_checkpoint
from molora.config import LoraConfig, MoloraConfig
from molora.errors import MoloraError
from molora.examples import Example, Rows, collate, encode, mix
from molora.loading import load_base
from molora.losses import answer_loss, balance_loss, held_out_losses, routings
from molora.tasks import TASKS, Item, Split, known
from molora.wrap import wrap


class AdapterTrainer(Trainer):
    """Trainer of the adapter alone: its checkpoints leave the frozen base out."""

    balance: float = 0.0

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        with routings(model) as seen:
            total, count = answer_loss(model, inputs)
        loss = total / count
        if self.balance and seen:
            mask = inputs["attention_mask"].bool()
            loss = loss + self.balance * torch.stack([balance_loss(routing, mask) for routing in seen]).mean()
        return loss

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


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m molora.train", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets (see the README)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint; its run/ holds the state")
    parser.add_argument("--base", default="demo", help="hub id or folder of the base, or 'demo'")
    parser.add_argument("--init", type=Path, help="checkpoint to go on from, of the same base and shape (a next stage)")
    parser.add_argument(
        "--tasks",
        default="medquad_information=0.3,medquad_symptoms=0.1,medquad_treatment=0.12,pubmedqa=0.08,"
        "ncbi_disease=0.22,mts_section=0.18",
        help="tasks with their shares of the examples (default: %(default)s)",
    )
    parser.add_argument("--experts", type=int, default=8, help="E; 1 trains plain LoRA")
    parser.add_argument("--top-k", type=int, default=2, help="experts for each token")
    parser.add_argument("--rank", type=int, default=8, help="rank of each expert and of the attention LoRA")
    parser.add_argument("--alpha", type=float, default=16.0, help="LoRA alpha")
    parser.add_argument("--dropout", type=float, default=0.0, help="LoRA dropout")
    parser.add_argument("--balance", type=float, default=0.01, help="weight of the load-balance loss")
    parser.add_argument("--steps", type=int, default=560, help="optimizer steps")
    parser.add_argument("--batch-size", type=int, default=8, help="sequences a step")
    parser.add_argument("--max-length", type=int, default=256, help="tokens a sequence")
    parser.add_argument("--learning-rate", type=float, default=1.5e-3, help="peak of warm-up and cosine")
    parser.add_argument("--held-out", type=int, default=80, help="held-out items a task")
    parser.add_argument("--save-steps", type=int, default=20, help="steps between resumable states")
    parser.add_argument("--seed", type=int, default=0, help="of weights and order")
    return parser.parse_args(argv)


def shares_of(text: str) -> dict[str, float]:
    """`"medquad=0.6,pubmedqa=0.4"` -> shares. Raises MoloraError for an unknown task or a share that is no number."""
    shares = {}
    for part in text.split(","):
        name, _, share = part.strip().partition("=")
        known([name])
        try:
            shares[name] = float(share or 1)
        except ValueError:
            raise MoloraError(f"The share of {name} is {share!r}; a number is expected.") from None
    return shares


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Trains, measures before and after, writes the checkpoint to `args.out`. Returns what the card tells."""
    shares = shares_of(args.tasks)
    splits = {name: TASKS[name].load(args.data) for name in tqdm(shares, desc="reading tasks")}
    model, tokenizer = load_base(args.base)
    lora = LoraConfig(args.rank, args.alpha, dropout=args.dropout)
    config = MoloraConfig(args.experts, args.top_k, experts=lora, attention=lora, base=args.base)
    torch.manual_seed(args.seed)
    wrap(model, config)
    initial = initial_checkpoint(args.init, config) if args.init else None
    weights = {
        "trained": sum(p.numel() for p in trained(model).values()),
        "total": sum(p.numel() for p in model.parameters()),
    }
    print(f"training {weights['trained']:,} of {weights['total']:,} weights", flush=True)

    def encoded(items: Sequence[Item]) -> list[Example]:
        return [example for item in items if (example := encode(tokenizer, item, args.max_length))]

    pad = tokenizer.eos_token_id
    train_set = mix({n: encoded(s.train) for n, s in splits.items()}, shares, args.steps * args.batch_size, args.seed)
    rng = random.Random(0)  # the same held-out items for every seed, so that runs compare
    test_sets = {n: encoded(rng.sample(s.test, min(args.held_out, len(s.test)))) for n, s in splits.items()}

    state = args.out / "run"
    progress = Progress(state / "progress.json")
    resume = last_complete(state)
    if not resume:
        base = before = held_out_losses(model, test_sets, pad, args.batch_size)  # a new adapter adds nothing yet
        if initial:
            fill(initial, model)
            before = held_out_losses(model, test_sets, pad, args.batch_size)
        progress.start(base, before)
    tell("of the base alone", progress.base)
    tell("before", progress.before)
    trainer = AdapterTrainer(
        model=model,
        args=trainer_arguments(args, state),
        train_dataset=Rows(train_set),
        data_collator=lambda rows: collate([row["example"] for row in rows], pad),
        callbacks=[progress],
    )
    trainer.balance = args.balance
    trainer.train(resume_from_checkpoint=resume)
    seconds = progress.seconds

    base_config = model.config.to_diff_dict() | {"architectures": [type(model).__name__]}
    write_checkpoint(args.out, model, config, base_config, torch.bfloat16)
    fill(read_checkpoint(args.out), model)  # what ships is rounded, and is what gets measured
    after = held_out_losses(model, test_sets, pad, args.batch_size)
    tell("after", after)
    training = {
        "base": args.base,
        "tasks": {
            name: task_record(name, split, shares[name])
            | {"held_out": len(test_sets[name]), "loss_base": progress.base[name]}
            | {"loss_before": progress.before[name], "loss_after": after[name]}
            for name, split in splits.items()
        },
        "settings": {k: v for k, v in vars(args).items() if k not in ("data", "out", "base", "init")},
        "weights": weights,
        "tokens": sum(len(example.token_ids) for example in train_set),
        "seconds": round(seconds),
        "machine": torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores",
        "losses": [[row["step"], row["loss"]] for row in trainer.state.log_history if "loss" in row],
    }
    if args.init and (args.init / "training.json").is_file():
        training["earlier"] = json.loads((args.init / "training.json").read_text(encoding="utf-8"))
    (args.out / "training.json").write_text(json.dumps(training, indent=1) + "\n", encoding="utf-8")
    (args.out / "README.md").write_text(model_card(training), encoding="utf-8")
    return training


def tell(when: str, losses: dict[str, float]) -> None:
    print(f"held-out loss {when}:", {name: round(loss, 3) for name, loss in losses.items()}, flush=True)


def initial_checkpoint(folder: Path, config: MoloraConfig) -> Checkpoint:
    """The checkpoint to go on from. Raises MoloraError if it was made with other settings than these."""
    checkpoint = read_checkpoint(folder)
    has, given = (f"{c.num_experts} experts, top-{c.top_k}, {c.experts}" for c in (checkpoint.config, config))
    if has != given:
        raise MoloraError(f"The checkpoint in {folder} has {has}; this training has {given}. Give the checkpoint's.")
    return checkpoint


def last_complete(state: Path) -> str | None:
    """The newest state that was written to its end: Trainer writes `trainer_state.json` last."""
    states = [path.parent for path in state.glob("checkpoint-*/trainer_state.json")]
    return str(max(states, key=lambda path: int(path.name.rpartition("-")[2]))) if states else None


def trainer_arguments(args: argparse.Namespace, state: Path) -> TrainingArguments:
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
    )


def task_record(name: str, split: Split, share: float) -> dict[str, Any]:
    task = TASKS[name]
    return {"share": share, "train": len(split.train), "source": task.source, "licence": task.licence}


def main() -> None:
    args = parse()
    try:
        run(args)
    except MoloraError as error:
        sys.exit(f"molora.train: {error}")
    except KeyboardInterrupt:
        sys.exit(f"molora.train: interrupted; the same command goes on from the last state in {args.out / 'run'}.")


if __name__ == "__main__":
    main()
