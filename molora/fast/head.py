"""Hidden state of one token -> logits over the vocabulary: rough for all of it, exact for the best.

Axes: V vocabulary, I hidden size, G blocks of 32 weights along I.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from molora.fast.levels import BLOCK, on_grid, pack4
from molora.fast.product import Product, bias_of, packable, product
from molora.highest import highest

_EXACT = 128
"""Best tokens whose logits are computed anew from the weights themselves; the rest are right to three digits or so."""


def head_product(head: nn.Linear, pack: bool) -> Product:
    """`pack`: if the weights lie on a grid of 255 levels a block, as those of a Q8_0 file do.

    The kernel has 4 bits, so the grid is split into 16 times a high half and a low half, each of 16 levels.
    """
    if not pack or bias_of(head) is not None or not packable(head.weight) or head.out_features < 8 * _EXACT:
        return product([head], pack)
    blocks = head.weight.detach().unflatten(-1, (-1, BLOCK))  # [V, G, 32]
    scale = blocks.abs().amax(-1, keepdim=True) / 127  # [V, G, 1]
    levels = (blocks / scale.clamp_min(torch.finfo(scale.dtype).tiny)).round_()  # -127 to 127
    if not on_grid(levels, scale, torch.zeros_like(scale), blocks):
        return product([head], pack)
    low = levels.remainder(16)  # 0 to 15
    high = (levels - low) / 16 + 8  # 0 to 15
    scale = scale[..., 0]  # [V, G]
    halves = pack4(
        torch.cat([high, low]), torch.cat([16 * scale, scale]), torch.cat([torch.zeros_like(scale), 8 * scale])
    )

    def multiply(x: Tensor) -> Tensor:
        both = halves.multiply(x)  # [1, 2*V]
        logits = both.view(2, -1).sum(0, keepdim=True)  # [1, V]
        best = highest(logits, _EXACT)[1][0]  # [128]
        logits[0, best] = F.linear(x, head.weight[best])[0]
        return logits

    return Product(multiply, halves.nbytes + head.weight[:_EXACT].nbytes)
