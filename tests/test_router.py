"""The router: which experts it picks, and that drawing them is honest and reproducible."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from molora.layers import Router

IN = 24
LOGITS = torch.tensor([2.0, 1.0, 0.0, -0.5])


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_router_gives_the_strongest_first_and_softmax_over_the_picked() -> None:
    router = Router(IN, 8, 3)
    x = torch.randn(2, 5, IN)
    routing = router(x)
    torch.testing.assert_close(routing.logits, F.linear(x, router.weight, router.bias))
    order = routing.logits.argsort(dim=-1, descending=True)[..., :3]
    assert torch.equal(routing.expert_ids, order)
    torch.testing.assert_close(routing.weights, routing.logits.gather(-1, order).softmax(-1))
    assert (routing.weights.diff(dim=-1) <= 0).all()


def sampler(top_k: int = 2) -> Router:
    router = Router(IN, 4, top_k, "sampling")
    with torch.no_grad():
        router.weight.zero_()
        router.bias.copy_(LOGITS)
    return router


def test_draws_without_replacement_from_the_softmax() -> None:
    """Chi-square over the 6 pairs; 5 degrees of freedom stay below 20.5 in 999 of 1000 runs."""
    draws = 20_000
    p = LOGITS.double().softmax(-1).tolist()
    routing = sampler()(torch.zeros(draws, IN))
    pairs = [tuple(sorted(pair)) for pair in routing.expert_ids.tolist()]
    statistic = 0.0
    for i, j in itertools.combinations(range(4), 2):
        expected = draws * (p[i] * p[j] / (1 - p[i]) + p[j] * p[i] / (1 - p[j]))
        statistic += (pairs.count((i, j)) - expected) ** 2 / expected
    assert statistic < 20.5
    assert sum(i == j for i, j in pairs) == 0


def test_single_draws_follow_the_softmax() -> None:
    routing = sampler(top_k=1)(torch.zeros(20_000, IN))
    share = routing.expert_ids.flatten().bincount(minlength=4) / 20_000
    torch.testing.assert_close(share, LOGITS.softmax(-1), rtol=0, atol=0.015)


def test_weights_belong_to_the_picked_strongest_first() -> None:
    routing = sampler()(torch.zeros(200, IN))
    picked = LOGITS[routing.expert_ids]
    torch.testing.assert_close(routing.weights, picked.softmax(-1))
    assert (picked.diff(dim=-1) < 0).all()
    torch.testing.assert_close(routing.logits, LOGITS.expand(200, 4))


def test_generator_makes_it_reproducible() -> None:
    router, x = sampler(), torch.zeros(500, IN)

    def draw(seed: int) -> Tensor:
        router.generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed + 99)  # torch's own must not matter
        return router(x).expert_ids

    first = draw(1)
    torch.randn(3)
    router.generator = torch.Generator().manual_seed(1)
    assert torch.equal(router(x).expert_ids, first)
    assert not torch.equal(draw(2), first)


def test_without_a_generator_torchs_own_decides() -> None:
    router, x = sampler(), torch.zeros(500, IN)
    torch.manual_seed(5)
    first = router(x).expert_ids
    assert not torch.equal(router(x).expert_ids, first)
    torch.manual_seed(5)
    assert torch.equal(router(x).expert_ids, first)
