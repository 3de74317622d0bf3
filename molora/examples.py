"""Items -> token sequences with loss on their answers, mixed by share and padded into batches."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from molora.chat import encode_chat
from molora.tasks import Item

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


class Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """Examples in the form that the Trainer's length-grouped sampler reads."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, at: int) -> dict[str, Any]:
        return {"example": self.examples[at], "input_ids": self.examples[at].token_ids}
