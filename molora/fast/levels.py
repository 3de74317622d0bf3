"""Weights as levels, 4 bits each, with a scale and a centre for every block of 32: what they are multiplied by.

Axes: O out_features, I in_features, G blocks along I, N tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from molora.fast.pages import placed_tensor, room
from molora.fast.threads import threads

BLOCK = 32
"""Weights that share a scale in llama.cpp's formats, and the group that torch's 4-bit kernel is given."""

WORTH = 1 << 15
"""Words of levels that take one thread longer to multiply than another one to wake"""

_ROUNDING = 1e-4
"""Of a scale: how far off its grid a weight may lie"""


def grid_of(weight: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """Levels [O, G, 32], scales and centres [O, G] that give back `weight` [O, I]; None if there are none."""
    blocks = weight.unflatten(-1, (-1, BLOCK))  # [O, G, 32]
    low, high = blocks.amin(-1, keepdim=True), blocks.amax(-1, keepdim=True)  # [O, G, 1]
    scale = (high - low) / 15
    levels = ((blocks - low) / scale.clamp_min(torch.finfo(scale.dtype).tiny)).round_()
    if not on_grid(levels, scale, low, blocks):
        return None
    return levels, scale[..., 0], (low + 8 * scale)[..., 0]


def on_grid(levels: Tensor, scale: Tensor, low: Tensor, blocks: Tensor) -> bool:
    """Whether blocks [O, G, 32] are level * scale + low [O, G, 1], but for float32's own rounding."""
    worst = torch.addcmul(low, levels, scale).sub_(blocks).abs_().amax()
    return bool(worst <= _ROUNDING * scale.mean())


def multiplies_bfloat16() -> bool:
    """Whether the CPU does so faster than float32: with AMX, or with AVX-512 where it is not Intel's, which takes twice
    as long for bfloat16 as for float32."""
    return cpu_has("amx_bf16") or (cpu_has("avx512_bf16") and not str(_cpu().get("cpu_name")).startswith("Intel"))


def cpu_has(name: str) -> bool:
    """Whether the CPU has instructions of this name of torch's; False where it names none."""
    return bool(_cpu().get(name))


def _cpu() -> Mapping[str, object]:
    return torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}


class Levels:
    """Weights [O, I], as compiled code takes them."""

    few = 32
    """Tokens that are read faster so than in bfloat16; 64 take it nearly as long"""

    def __init__(self, words: NDArray[np.int32]) -> None:
        """words: int32 [O / W, G, 5, W]."""
        from molora.fast.kernel import multiplied  # here alone: numba takes half a second to import

        count, _, _, lanes = words.shape
        self.words, self._multiplied = words.reshape(count, -1), multiplied
        self._rows = count * lanes

    @classmethod
    def pack(cls, levels: Tensor, scales: Tensor, centres: Tensor) -> Levels:
        """Levels 0 to 15 [O, G, 32], scales and centres [O, G]: weights (level - 8) * scale + centre."""
        from molora.fast.kernel.lanes import LANES

        blocks = levels.shape[1]
        low, high = levels.byte().unflatten(-1, (16, 2)).unbind(-1)  # [O, G, 16]
        words = (low | high << 4).view(torch.int32)  # [O, G, 4]
        halves = torch.stack([scales, centres], dim=-1).bfloat16().view(torch.int32)  # [O, G, 1]
        whole = torch.cat([words, halves], dim=-1).view(-1, LANES, blocks, 5)  # [O / W, W, G, 5]
        return cls(placed_tensor(whole.permute(0, 2, 3, 1)).numpy())

    @classmethod
    def of(cls, weights: Sequence[Tensor]) -> Levels | None:
        """Those of weights [O, I], one below the other, without a copy of any on the way; None if blocks of one take
        more than 16 evenly spaced values."""
        from molora.fast.kernel import packed
        from molora.fast.kernel.lanes import LANES

        sizes, blocks, parts = [len(weight) for weight in weights], weights[0].shape[1] // BLOCK, threads()
        words = room((sum(sizes) // LANES, blocks, 5, LANES), np.int32)
        ends = np.cumsum(sizes)[:-1] // LANES
        for weight, target in zip(weights, np.split(words, ends), strict=True):
            source = weight.contiguous().numpy()
            for rows in (LANES, len(weight)):  # nearly all that have more levels have them in the first rows
                found = np.zeros((parts, 2), np.float32)  # how far off its grid a weight lies; the sum of scales
                packed(source[:rows], target[: rows // LANES], found, parts)
                worst, scale = found[:, 0].max(), found[:, 1].sum() / (rows * blocks)
                if not worst <= _ROUNDING * scale:  # it may be no number
                    return None
        return cls(words)

    def multiply(self, x: Tensor) -> Tensor:
        """x [N, I] -> float32 [N, O]."""
        x, count = x.float().contiguous(), x.shape[0]
        y = x.new_empty(count, self._rows)
        parts = threads() if count * self.words.size >= WORTH else 1
        self._multiplied(x.data_ptr(), self.words, y.data_ptr(), count, parts)
        return y

    @property
    def nbytes(self) -> int:
        return self.words.nbytes
