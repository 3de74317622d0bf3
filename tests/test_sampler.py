from __future__ import annotations

import torch

from molora.sampler import Sampler
from molora.sampling import Sampling

LOGITS = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
CPU = torch.device("cpu")
NOTHING = torch.zeros(1, 0, dtype=torch.long)


def shares(sampling: Sampling, read: torch.Tensor = NOTHING, draws: int = 4000) -> torch.Tensor:
    sampler = Sampler(sampling, CPU)
    drawn = torch.cat([sampler.draw(read, LOGITS) for _ in range(draws)]).flatten()
    return torch.bincount(drawn, minlength=4) / draws


def test_zero_temperature_takes_the_likeliest() -> None:
    assert shares(Sampling(temperature=0), draws=5).tolist() == [1, 0, 0, 0]


def test_temperature_divides_the_logits() -> None:
    expected = torch.softmax(LOGITS[0] / 2, dim=-1)
    torch.testing.assert_close(shares(Sampling(temperature=2.0)), expected, atol=0.03, rtol=0)


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    kept = shares(Sampling(temperature=1.0, top_p=0.8))  # 0.64 + 0.24 reach it, so two stay
    assert (kept > 0).tolist() == [True, True, False, False]


def test_repetition_penalty_lowers_what_was_read() -> None:
    read = torch.tensor([[0]])
    assert shares(Sampling(repetition_penalty=4.0), read, draws=1).tolist() == [0, 1, 0, 0]
