"""What training lowers: the loss of the answers' tokens, and the imbalance of the routers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from molora.layers import Router, Routing
from molora.training.baselines import told
from molora.training.examples import IGNORED, Example, collate
from molora.wrap import wrapped_linears


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


@torch.no_grad()
def held_out_losses(model: Any, pools: dict[str, list[Example]], pad: int, batch_size: int) -> dict[str, float]:
    """Mean loss of an answer's token, in nats, for each task."""
    model.eval()
    for linear in wrapped_linears(model).values():
        # In evaluation bitsandbytes repacks a CPU's 4-bit weights for good, for a kernel that knows no gradients.
        linear.base_layer.train()
    losses = {}
    device = next(model.parameters()).device
    for name, pool in pools.items():
        pool = sorted(pool, key=lambda example: len(example.token_ids))
        total = count = 0.0
        for at in tqdm(range(0, len(pool), batch_size), desc=f"held-out {name}", leave=False):
            batch = {k: v.to(device) for k, v in collate(pool[at : at + batch_size], pad).items()}
            with told(model, batch["task"]):
                loss, tokens = answer_loss(model, batch)
            total, count = total + loss.item(), count + tokens.item()
        losses[name] = total / count
    return losses
