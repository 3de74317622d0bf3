"""Conversations -> token sequences with loss on the answers, mixed by share and padded into batches."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from molora.chat import Message, encode_turns
from molora.errors import MoloraError
from molora.tasks import Item

IGNORED = -100
"""Label of a token that carries no loss."""


class Example(NamedTuple):
    token_ids: list[int]
    """[T]"""
    labels: list[int]
    """[T], the token where it is part of an answer, IGNORED elsewhere"""
    task: int = 0
    """Number of its task among those trained; only a router that is told the task reads it"""


def as_messages(item: Item) -> list[Message]:
    return [{"role": "user", "content": item.prompt}, {"role": "assistant", "content": item.answer}]


def encode(tokenizer: Any, messages: Sequence[Message], max_length: int, task: int = 0) -> Example | None:
    """The conversation cut to `max_length` tokens; None if that leaves nothing of an answer.

    Every assistant turn carries loss, and so does what the template puts after it up to the token that ends the turn.
    """
    ids, owners = encode_turns(tokenizer, messages, open_answer=False)
    special = set(tokenizer.all_special_ids)
    labels: list[int] = []
    answering = False
    for token, owner in zip(ids, owners, strict=True):
        if owner is not None:
            answering = messages[owner]["role"] == "assistant"
        labels.append(token if answering else IGNORED)
        if owner is None and token in special:
            answering = False
    labels = labels[:max_length]
    return Example(ids[:max_length], labels, task) if any(label != IGNORED for label in labels) else None


def mix(pools: dict[str, list[Example]], shares: dict[str, float], count: int, seed: int) -> list[Example]:
    """`count` examples by the tasks' shares; each pool is dealt out whole before any of it comes again.

    Raises MoloraError for an empty pool.
    """
    rng = random.Random(seed)
    dealt: list[Example] = []
    total = sum(shares.values())
    for name, pool in pools.items():
        if not pool:
            raise MoloraError(f"No item of {name} leaves room for its answer: allow longer sequences (--max-length).")
        wanted = round(count * shares[name] / total)
        while wanted > 0:
            dealt += rng.sample(pool, min(wanted, len(pool)))
            wanted -= len(pool)
    rng.shuffle(dealt)
    return dealt


def collate(examples: Sequence[Example], pad: int) -> dict[str, Tensor]:
    """Right-padded `input_ids`, `attention_mask`, `labels`, each [B, T], and `task` [B]."""
    width = max(len(example.token_ids) for example in examples)
    batch = {
        key: torch.full((len(examples), width), fill)
        for key, fill in (("input_ids", pad), ("attention_mask", 0), ("labels", IGNORED))
    }  # [B, T]
    for row, (ids, labels, _) in enumerate(examples):
        batch["input_ids"][row, : len(ids)] = torch.tensor(ids)
        batch["attention_mask"][row, : len(ids)] = 1
        batch["labels"][row, : len(ids)] = torch.tensor(labels)
    return batch | {"task": torch.tensor([example.task for example in examples])}


class Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """Examples in the form that the Trainer's length-grouped sampler reads."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, at: int) -> dict[str, Any]:
        return {"example": self.examples[at], "input_ids": self.examples[at].token_ids}
