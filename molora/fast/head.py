"""Hidden state of one token -> logits over the vocabulary: rough for all of it, exact for the best.

Axes: V vocabulary, I hidden size, G blocks of 32 weights along I.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from molora.fast.levels import BLOCK, Levels, on_grid
from molora.fast.product import Product, bias_of, packable, product
from molora.fast.threads import threads

_EXACT = 128
"""Best tokens, at least, whose logits are computed anew from the weights; the rest are right to three digits or so."""

_ROWS = 2048
"""Of a head that are looked at at once"""


def head_product(head: nn.Linear, pack: bool) -> Product:
    """`pack`: if the weights lie on a grid of 255 levels a block, as those of a Q8_0 file do.

    The kernel has 4 bits, so the grid is split into 16 times a high half and a low half, each of 16 levels.
    """
    if not pack or bias_of(head) is not None or not packable(head.weight) or head.out_features < 16 * _EXACT:
        return product([head], pack)
    split = _split(head.weight.detach())
    if split is None:
        return product([head], pack)
    from molora.fast.kernel import scored  # here alone: numba takes half a second to import

    levels, scale = split
    halves = Levels.pack(levels, torch.cat([16 * scale, scale]), torch.cat([torch.zeros_like(scale), 8 * scale]))
    weight = head.weight.detach().contiguous().numpy()

    def multiply(x: Tensor) -> Tensor:
        logits = x.new_empty(1, len(weight))
        scored(halves.multiply(x).numpy()[0], weight, x.contiguous().numpy()[0], _EXACT, logits.numpy()[0], threads())
        return logits

    return Product(multiply, halves.nbytes + weight[:_EXACT].nbytes)


def _split(weight: Tensor) -> tuple[Tensor, Tensor] | None:
    """Levels of a weight [V, I], high halves above low ones, uint8 [2*V, G, 32], and their scales [V, G]; None if it
    does not lie on such a grid. Some rows at a time, so that what is made of them on the way stays in the cache."""
    blocks = weight.unflatten(-1, (-1, BLOCK))  # [V, G, 32]
    halves, scales = torch.empty(2, *blocks.shape, dtype=torch.uint8), blocks.new_empty(blocks.shape[:2])
    for at in range(0, len(blocks), _ROWS):
        rows = slice(at, at + _ROWS)
        some = blocks[rows]
        scale = some.abs().amax(-1, keepdim=True) / 127  # [2048, G, 1]
        levels = (some / scale.clamp_min(torch.finfo(scale.dtype).tiny)).round_()  # -127 to 127
        if not on_grid(levels, scale, torch.zeros_like(scale), some):
            return None
        whole = levels.add_(128).byte()  # 16 * (high - 8) + low is the level
        halves[0, rows], halves[1, rows] = whole >> 4, whole & 15
        scales[rows] = scale[..., 0]
    return halves.flatten(0, 1), scales
