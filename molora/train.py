"""`python -m molora.train`: trains MoLoRA on the FFN and LoRA on the attention of a frozen base.

Loss on answers only, and logits only where there is loss. Interrupted, it resumes where it last saved.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import Trainer, TrainingArguments

from molora.chat import encode_chat
from molora.checkpoint import write_checkpoint
from molora.config import LoraConfig, MoloraConfig
from molora.errors import MoloraError
from molora.layers import Router, Routing
from molora.loading import load_base
from molora.tasks import TASKS, Item
from molora.wrap import wrap

IGNORED = -100
"""Label of a token that carries no loss."""


class Example(NamedTuple):
    token_ids: list[int]
    answer_at: int
    """Index of the first token with loss"""


def encode(tokenizer: Any, item: Item, max_length: int) -> Example | None:
    """The item as one turn of chat, cut to `max_length` tokens; None if that leaves nothing of the answer."""
    prompt = encode_chat(tokenizer, [{"role": "user", "content": item.prompt}]).token_ids
    answer = tokenizer(item.answer, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    end = tokenizer(f"{tokenizer.eos_token}\n", add_special_tokens=False)["input_ids"]  # as ChatML closes a turn
    ids = [*prompt, *answer, *end][:max_length]
    return Example(ids, len(prompt)) if len(prompt) < len(ids) else None


def mix(pools: dict[str, list[Example]], shares: dict[str, float], count: int, seed: int) -> list[Example]:
    """`count` examples by the tasks' shares; each pool is dealt out whole before any of it comes again."""
    rng = random.Random(seed)
    dealt: list[Example] = []
    total = sum(shares.values())
    for name, pool in pools.items():
        wanted = round(count * shares[name] / total)
        while wanted > 0:
            dealt += rng.sample(pool, min(wanted, len(pool)))
            wanted -= len(pool)
    rng.shuffle(dealt)
    return dealt


def collate(examples: Sequence[Example], pad: int) -> dict[str, Tensor]:
    """Right-padded `input_ids`, `attention_mask`, `labels`, each [B, T]."""
    width = max(len(example.token_ids) for example in examples)
    batch = {
        key: torch.full((len(examples), width), fill)
        for key, fill in (("input_ids", pad), ("attention_mask", 0), ("labels", IGNORED))
    }  # [B, T]
    for row, (ids, answer_at) in enumerate(examples):
        batch["input_ids"][row, : len(ids)] = torch.tensor(ids)
        batch["attention_mask"][row, : len(ids)] = 1
        batch["labels"][row, answer_at : len(ids)] = torch.tensor(ids[answer_at:])
    return batch


def answer_loss(model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """(summed cross entropy of the answers' tokens, their number); the vocabulary is scored for those alone."""
    hidden = model.model(batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)[0]  # [B, T, H]
    target = batch["labels"][:, 1:]
    scored = target != IGNORED
    logits = model.lm_head(hidden[:, :-1][scored]).float()  # [N, V]
    return F.cross_entropy(logits, target[scored], reduction="sum"), scored.sum()


@contextmanager
def routings(model: nn.Module) -> Iterator[list[Routing]]:
    """Collects what every router decides in the forward passes made inside."""
    seen: list[Routing] = []
    handles = [
        router.register_forward_hook(lambda _module, _args, routing: seen.append(routing))
        for router in model.modules()
        if isinstance(router, Router)
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def balance_loss(routing: Routing, mask: Tensor) -> Tensor:
    """E * sum_e (share of picks)_e * (mean full softmax)_e over the tokens in `mask` [B, T]: 1 when even
    (Switch Transformer, arXiv 2101.03961, eq. 4)."""
    probabilities = routing.logits[mask].softmax(-1)  # [N, E]
    experts = probabilities.shape[-1]
    picks = F.one_hot(routing.expert_ids[mask], experts).sum(-2).float()  # [N, E]
    return experts * (picks.mean(0) / picks.sum(-1).mean() * probabilities.mean(0)).sum()


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


def trained(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that training changes, by name."""
    return {name: p.data.contiguous() for name, p in model.named_parameters() if p.requires_grad}


@torch.no_grad()
def held_out_losses(model: Any, pools: dict[str, list[Example]], pad: int, batch_size: int) -> dict[str, float]:
    """Mean loss of an answer's token, in nats, for each task."""
    model.eval()
    losses = {}
    device = next(model.parameters()).device
    for name, pool in pools.items():
        pool = sorted(pool, key=lambda example: len(example.token_ids))
        total = count = 0.0
        for at in tqdm(range(0, len(pool), batch_size), desc=f"held-out {name}", leave=False):
            batch = {k: v.to(device) for k, v in collate(pool[at : at + batch_size], pad).items()}
            loss, tokens = answer_loss(model, batch)
            total, count = total + loss.item(), count + tokens.item()
        losses[name] = total / count
    return losses


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m molora.train", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets (see the README)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint; its run/ holds the state")
    parser.add_argument("--base", default="demo", help="hub id or folder of the base, or 'demo'")
    parser.add_argument(
        "--tasks",
        default="medquad=0.64,pubmedqa=0.12,ncbi_disease=0.12,mts_dialog=0.12",
        help="tasks with their shares of the examples (default: %(default)s)",
    )
    parser.add_argument("--experts", type=int, default=8, help="E; 1 trains plain LoRA")
    parser.add_argument("--top-k", type=int, default=2, help="experts for each token")
    parser.add_argument("--rank", type=int, default=8, help="rank of each expert and of the attention LoRA")
    parser.add_argument("--alpha", type=float, default=16, help="LoRA alpha")
    parser.add_argument("--dropout", type=float, default=0.0, help="LoRA dropout")
    parser.add_argument("--balance", type=float, default=0.01, help="weight of the load-balance loss")
    parser.add_argument("--steps", type=int, default=420, help="optimizer steps")
    parser.add_argument("--batch-size", type=int, default=8, help="sequences a step")
    parser.add_argument("--max-length", type=int, default=256, help="tokens a sequence")
    parser.add_argument("--learning-rate", type=float, default=1.5e-3, help="peak of warm-up and cosine")
    parser.add_argument("--held-out", type=int, default=100, help="held-out items a task")
    parser.add_argument("--save-steps", type=int, default=50, help="steps between resumable states")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and held-out items")
    return parser.parse_args(argv)


def shares_of(text: str) -> dict[str, float]:
    """`"medquad=0.6,pubmedqa=0.4"` -> shares. Raises MoloraError for an unknown task or a share that is no number."""
    shares = {}
    for part in text.split(","):
        name, _, share = part.strip().partition("=")
        if name not in TASKS:
            raise MoloraError(f"There is no task {name!r}; known are {', '.join(TASKS)}.")
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
    weights = {
        "trained": sum(p.numel() for p in trained(model).values()),
        "total": sum(p.numel() for p in model.parameters()),
    }
    print(f"training {weights['trained']:,} of {weights['total']:,} weights", flush=True)

    def encoded(items: Sequence[Item]) -> list[Example]:
        return [example for item in items if (example := encode(tokenizer, item, args.max_length))]

    pad = tokenizer.eos_token_id
    train_set = mix({n: encoded(s.train) for n, s in splits.items()}, shares, args.steps * args.batch_size, args.seed)
    rng = random.Random(args.seed)
    test_sets = {n: encoded(rng.sample(s.test, min(args.held_out, len(s.test)))) for n, s in splits.items()}

    state = args.out / "run"
    before_file = state / "before.json"
    resume = bool(list(state.glob("checkpoint-*")))
    if resume:
        before = json.loads(before_file.read_text())
    else:
        before = held_out_losses(model, test_sets, pad, args.batch_size)
        state.mkdir(parents=True, exist_ok=True)
        before_file.write_text(json.dumps(before))
    print("held-out loss before:", {k: round(v, 3) for k, v in before.items()}, flush=True)

    trainer = AdapterTrainer(
        model=model,
        args=TrainingArguments(
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
        ),
        train_dataset=Rows(train_set),
        data_collator=lambda rows: collate([row["example"] for row in rows], pad),
    )
    trainer.balance = args.balance
    started = time.perf_counter()
    trainer.train(resume_from_checkpoint=resume)
    seconds = time.perf_counter() - started
    after = held_out_losses(model, test_sets, pad, args.batch_size)
    print("held-out loss after: ", {k: round(v, 3) for k, v in after.items()}, flush=True)

    base_config = model.config.to_diff_dict() | {"architectures": [type(model).__name__]}
    write_checkpoint(args.out, model, config, base_config, torch.bfloat16)
    card = {
        "tasks": {
            n: {
                "share": shares[n],
                "train": len(s.train),
                "held_out": len(test_sets[n]),
                "source": TASKS[n].source,
                "licence": TASKS[n].licence,
                "loss_before": before[n],
                "loss_after": after[n],
            }
            for n, s in splits.items()
        },
        "settings": {k: v for k, v in vars(args).items() if k not in ("data", "out")},
        "weights": weights,
        "tokens": sum(len(example.token_ids) for example in train_set),
        "seconds": round(seconds),
        "losses": [[row["step"], row["loss"]] for row in trainer.state.log_history if "loss" in row],
    }
    (args.out / "training.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return card


class Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """Examples in the form that the Trainer's length-grouped sampler reads."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, at: int) -> dict[str, Any]:
        return {"example": self.examples[at], "input_ids": self.examples[at].token_ids}


def main() -> None:
    args = parse()
    try:
        run(args)
    except MoloraError as error:
        sys.exit(f"molora.train: {error}")


if __name__ == "__main__":
    main()
