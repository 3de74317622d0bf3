from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F

from molora.base import load_base
from molora.config import MoloraConfig
from molora.layers import Router, Routing
from molora.training.examples import IGNORED, Example, collate
from molora.training.losses import answer_loss, balance_loss, routings
from molora.wrap import wrap


def test_answer_loss_is_that_of_the_whole_vocabulary_at_every_token(base: Path) -> None:
    model, _ = load_base(str(base))
    batch = collate([Example([5, 6, 7, 8], [IGNORED, IGNORED, 7, 8]), Example([9, 10], [IGNORED, 10])], pad=0)
    total, count = answer_loss(model, batch)
    logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    plain = F.cross_entropy(logits[:, :-1].transpose(1, 2), batch["labels"][:, 1:], reduction="sum")
    assert count == 3
    torch.testing.assert_close(total, plain)


def test_balance_loss_is_one_when_even_and_e_when_all_go_to_one() -> None:
    mask = torch.tensor([[True, True, True, True, False]])
    even = torch.full((1, 5, 4), -20.0).scatter(-1, torch.tensor([[[0], [1], [2], [3], [0]]]), 20.0)
    ids = even.topk(1).indices
    torch.testing.assert_close(balance_loss(Routing(even, ids, torch.ones(1, 5, 1)), mask), torch.tensor(1.0))
    one = torch.full((1, 5, 4), -20.0).index_fill(-1, torch.tensor([2]), 20.0)
    ids = one.topk(1).indices
    torch.testing.assert_close(balance_loss(Routing(one, ids, torch.ones(1, 5, 1)), mask), torch.tensor(4.0))


def test_router_hooks_come_off(base: Path) -> None:
    model, _ = load_base(str(base))
    wrap(model, MoloraConfig(num_experts=4, top_k=2))
    with routings(model) as seen:
        model(torch.arange(6)[None])
    assert len(seen) == 9
    assert not any(m._forward_hooks for m in model.modules() if isinstance(m, Router))
