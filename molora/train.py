"""`python -m molora.train`: trains MoLoRA on the FFN and LoRA on the attention of a frozen base.

Loss on answers only, and logits only where there is loss. Interrupted, it resumes where it last saved.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from molora.base import QUANTIZE, load_base
from molora.chat import Message
from molora.checkpoint import Checkpoint, fill, read_checkpoint, write_checkpoint
from molora.config import ALL_PROJECTIONS, ATTENTION_PROJECTIONS, LoraConfig, MoloraConfig
from molora.errors import MoloraError
from molora.training.baselines import tell_tasks
from molora.training.card import model_card
from molora.training.examples import Example, Rows, collate, encode, mix
from molora.training.losses import held_out_losses
from molora.training.pools import ALL, pools_of
from molora.training.trainer import (
    AdapterTrainer,
    Progress,
    Training,
    checkpoint_activations,
    last_complete,
    trained,
    trainer_arguments,
)
from molora.wrap import wrap

_PLACES = ("data", "out", "base", "init", "conversations")
"""Options that say where things lie on this machine; the card leaves them out."""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m molora.train", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with the data sets (see the README)")
    parser.add_argument("--conversations", type=Path, help="folder of your own: [{conversations: [{from, value}]}]")
    parser.add_argument("--bad-rows", choices=("refuse", "skip"), default="refuse", help="of your conversations")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint; its run/ holds the state")
    parser.add_argument("--base", default="demo", help="hub id or folder of the base, or 'demo'")
    parser.add_argument("--init", type=Path, help="checkpoint to go on from, of the same base and shape (a next stage)")
    parser.add_argument(
        "--tasks",
        default=ALL,
        help="'all', '' for none, or names with shares of the examples: pubmedqa=2,lab_flag=1 (python -m molora.tasks)",
    )
    parser.add_argument("--quantize", choices=QUANTIZE, default="none", help="of the frozen base while training")
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="of the arithmetic; bf16 suits GPUs, and CPUs with avx512_bf16 (1.6 times faster there, slower on others)",
    )
    parser.add_argument("--gradient-checkpointing", action="store_true", help="less memory, a third more time")
    parser.add_argument("--experts", type=int, default=8, help="E; 1 trains plain LoRA")
    parser.add_argument("--top-k", type=int, default=2, help="experts for each token")
    parser.add_argument(
        "--router",
        choices=("token", "task"),
        default="token",
        help="what routers read; task: the oracle to compare with",
    )
    parser.add_argument("--rank", type=int, default=8, help="rank of each expert and of the attention LoRA")
    parser.add_argument("--alpha", type=float, default=16.0, help="LoRA alpha")
    parser.add_argument("--dropout", type=float, default=0.0, help="LoRA dropout")
    parser.add_argument("--balance", type=float, default=0.01, help="weight of the load-balance loss")
    parser.add_argument("--steps", type=int, default=1020, help="optimizer steps")
    parser.add_argument("--batch-size", type=int, default=8, help="sequences a step")
    parser.add_argument("--max-length", type=int, default=320, help="tokens a sequence")
    parser.add_argument("--learning-rate", type=float, default=1.5e-3, help="peak of warm-up and cosine")
    parser.add_argument("--held-out", type=int, default=16, help="held-out items a task")
    parser.add_argument("--save-steps", type=int, default=20, help="steps between resumable states")
    parser.add_argument("--seed", type=int, default=0, help="of weights and order")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Trains, measures before and after, writes the checkpoint to `args.out`. Returns what the card tells."""
    pools = pools_of(args.tasks, args.data, args.conversations, args.bad_rows)
    model, tokenizer, config = _wrapped(args, len(pools))
    initial = initial_checkpoint(args.init, config) if args.init else None
    training = Training(model, args.balance)
    weights = {
        "trained": sum(p.numel() for p in trained(training).values()),
        "total": sum(p.numel() for p in model.parameters()),
    }
    print(f"training {weights['trained']:,} of {weights['total']:,} weights", flush=True)

    def encoded(talks: Sequence[list[Message]], task: int) -> list[Example]:
        return [example for talk in talks if (example := encode(tokenizer, talk, args.max_length, task))]

    pad = tokenizer.eos_token_id
    rng = random.Random(0)  # the same held-out items for every seed, so that runs compare
    train_sets, test_sets = {}, {}
    for number, (name, pool) in enumerate(tqdm(pools.items(), desc="Tokenizing")):
        train_sets[name] = encoded(pool.train, number)
        test_sets[name] = encoded(rng.sample(pool.test, min(args.held_out, len(pool.test))), number)
    shares = {name: pool.share for name, pool in pools.items()}
    train_set = mix(train_sets, shares, args.steps * args.batch_size, args.seed)

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
        model=training,
        args=trainer_arguments(args, state),
        train_dataset=Rows(train_set),
        data_collator=lambda rows: collate([row["example"] for row in rows], pad),
        callbacks=[progress],
    )
    trainer.train(resume_from_checkpoint=resume)
    seconds = progress.seconds
    if not trainer.is_world_process_zero():
        return {}

    base_config = model.config.to_diff_dict() | {"architectures": [type(model).__name__]}
    write_checkpoint(args.out, model, config, base_config, torch.bfloat16)
    fill(read_checkpoint(args.out), model)  # what ships is rounded, and is what gets measured
    after = held_out_losses(model, test_sets, pad, args.batch_size)
    tell("after", after)
    told = {
        "base": args.base,
        "tasks": {
            name: {"share": round(pool.share, 3), "train": len(pool.train), "source": pool.source}
            | {"licence": pool.licence, "held_out": len(test_sets[name]), "loss_base": progress.base[name]}
            | {"loss_before": progress.before[name], "loss_after": after[name]}
            for name, pool in pools.items()
        },
        "settings": {k: v for k, v in vars(args).items() if k not in _PLACES},
        "weights": weights,
        "tokens": sum(len(example.token_ids) for example in train_set),
        "seconds": round(seconds),
        "machine": torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores",
        "losses": [[row["step"], row["loss"]] for row in trainer.state.log_history if "loss" in row],
    }
    if args.init and (args.init / "training.json").is_file():
        told["earlier"] = json.loads((args.init / "training.json").read_text(encoding="utf-8"))
    (args.out / "training.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    (args.out / "README.md").write_text(model_card(told), encoding="utf-8")
    return told


def _wrapped(args: argparse.Namespace, num_tasks: int) -> tuple[Any, Any, MoloraConfig]:
    """The frozen base with a fresh adapter on it, its tokenizer, and the adapter's config."""
    model, tokenizer = load_base(args.base, args.quantize, _device())
    if not torch.cuda.is_available():
        model.set_attn_implementation("eager")  # the way back through a CPU's fused kernel takes a fifth of a step
    lora = LoraConfig(args.rank, args.alpha, dropout=args.dropout)
    targets = ATTENTION_PROJECTIONS if args.experts > 1 else ALL_PROJECTIONS  # without experts the FFN has plain LoRA
    config = MoloraConfig(
        args.experts, args.top_k, experts=lora, attention=lora, target_modules=targets, base=args.base
    )
    torch.manual_seed(args.seed)
    wrap(model, config, torch.float32)
    if args.router == "task":
        tell_tasks(model, num_tasks)
    if args.gradient_checkpointing:
        checkpoint_activations(model)
    return model, tokenizer, config


def _device() -> str:
    """Each process of `accelerate launch` has a GPU of its own."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if torch.cuda.is_available() and "LOCAL_RANK" in os.environ else "auto"


def tell(when: str, losses: dict[str, float]) -> None:
    print(f"held-out loss {when}:", {name: round(loss, 3) for name, loss in losses.items()}, flush=True)


def initial_checkpoint(folder: Path, config: MoloraConfig) -> Checkpoint:
    """The checkpoint to go on from. Raises MoloraError if it was made with other settings than these."""
    checkpoint = read_checkpoint(folder)
    has, given = (f"{c.num_experts} experts, top-{c.top_k}, {c.experts}" for c in (checkpoint.config, config))
    if has != given:
        raise MoloraError(f"The checkpoint in {folder} has {has}; this training has {given}. Give the checkpoint's.")
    return checkpoint


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
