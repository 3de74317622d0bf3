"""Adapters on linears, and what routers are to be told and asked of them."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from molora.config import LoraConfig
from molora.edits import Masks
from molora.fast.picks import Picks
from molora.layers import MoloraLinear

I, O, E = 48, 80, 5  # O: a tile, and less than one


def assert_equal(given: Any, expected: Any) -> None:
    """But for float32's rounding."""
    torch.testing.assert_close(torch.as_tensor(given), torch.as_tensor(expected), rtol=1e-5, atol=1e-5)


def linears(
    count: int, rank: int, top_k: int = 2, experts: int = E, *, coarse: bool = False, size: int = I
) -> list[MoloraLinear]:
    """`coarse`: with weights that bfloat16 holds, which are read as such."""
    torch.manual_seed(0)
    made = []
    for _ in range(count):
        linear = MoloraLinear(nn.Linear(size, O), experts, top_k, LoraConfig(rank, 2.0 * rank))
        nn.init.normal_(linear.lora_B)
        if linear.router is not None:
            nn.init.normal_(linear.router.bias)
        if coarse:
            for weight in (linear.lora_A, linear.lora_B):
                weight.data = weight.data.bfloat16().float()
        made.append(linear.eval())
    return made


def picks(sizes: list[tuple[int, int, int]], tokens: int) -> Picks:
    return Picks(sizes, tokens, partial(np.empty, dtype=np.float32))


def some_masks(count: int) -> Masks:
    """The first router never picks expert 0, always 1, whose part is skipped, and gives 2 no weight; all that the last
    one picks weigh alike."""
    offset, kept, shift = torch.zeros(count, E), torch.ones(count, E, dtype=torch.bool), torch.zeros(count, E)
    offset[0, :2] = torch.tensor([-torch.inf, torch.inf])
    kept[0, 1] = False
    shift[0, 2] = -torch.inf
    return Masks(offset, kept, shift, torch.tensor([[1.0]] * (count - 1) + [[0.0]]))
