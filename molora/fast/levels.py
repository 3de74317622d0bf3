"""Weights as levels, 4 bits each, with a scale and a centre for every block of 32: what they are multiplied by.

Axes: O out_features, I in_features, G blocks along I, N tokens.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from molora.fast.threads import threads

BLOCK = 32
"""Weights that share a scale in llama.cpp's formats, and the group that torch's 4-bit kernel is given."""

WORTH = 1 << 15
"""Words of levels that take one thread longer to multiply than another one to wake"""


class Levels(Protocol):
    """Weights [O, I]."""

    def multiply(self, x: Tensor) -> Tensor:
        """x [N, I] -> float32 [N, O]."""

    @property
    def nbytes(self) -> int: ...


def pack4(levels: Tensor, scales: Tensor, centres: Tensor) -> Levels:
    """Levels 0 to 15 [O, G, 32], scales and centres [O, G]: weights (level - 8) * scale + centre."""
    return fastest().pack(levels, scales, centres)


def fastest() -> type[TorchLevels] | type[CompiledLevels]:
    """torch's kernel does with AVX2 a third of what compiled code does there; with AVX-512 it is fast."""
    return CompiledLevels if torch.backends.cpu.get_cpu_capability() == "AVX2" else TorchLevels


class TorchLevels:
    """As torch's kernel takes them."""

    few = 8
    """Tokens that are read faster so than in the dtype of a prompt; each for itself, so that 24 take it as long"""

    def __init__(self, weight: Tensor, scales: Tensor) -> None:
        """scales: bfloat16 [G, O, 2], scale and centre."""
        self._weight, self._scales = weight, scales

    @classmethod
    def pack(cls, levels: Tensor, scales: Tensor, centres: Tensor) -> TorchLevels:
        weight = torch.ops.aten._convert_weight_to_int4pack_for_cpu(levels.flatten(1).int(), 1)
        return cls(weight, torch.stack([scales.T, centres.T], dim=-1).bfloat16().contiguous())  # [G, O, 2]

    def halves(self, x: Tensor) -> Tensor:
        """bfloat16 x [N, I] -> bfloat16 [N, O]."""
        return torch.ops.aten._weight_int4pack_mm_for_cpu(x, self._weight, BLOCK, self._scales)

    def multiply(self, x: Tensor) -> Tensor:
        return self.halves(x.bfloat16().contiguous()).float()

    @property
    def nbytes(self) -> int:
        return self._weight.nbytes + self._scales.nbytes


class CompiledLevels:
    """As compiled code takes them."""

    few = 32
    """64 take it nearly as long; where more than the base's product is compiled, all go through `kernel.panels`."""

    def __init__(self, words: Tensor) -> None:
        """words: int32 [O / W, G, 5, W]."""
        from molora.fast.kernel import multiplied  # here alone: numba takes half a second to import

        count, _, _, lanes = words.shape
        self.words, self._multiplied = words.flatten(1).numpy(), multiplied
        self._rows = count * lanes

    @classmethod
    def pack(cls, levels: Tensor, scales: Tensor, centres: Tensor) -> CompiledLevels:
        from molora.fast.kernel.lanes import LANES

        blocks = levels.shape[1]
        low, high = levels.byte().unflatten(-1, (16, 2)).unbind(-1)  # [O, G, 16]
        words = (low | high << 4).view(torch.int32)  # [O, G, 4]
        halves = torch.stack([scales, centres], dim=-1).bfloat16().view(torch.int32)  # [O, G, 1]
        whole = torch.cat([words, halves], dim=-1).view(-1, LANES, blocks, 5)  # [O / W, W, G, 5]
        return cls(whole.permute(0, 2, 3, 1).contiguous())

    def multiply(self, x: Tensor) -> Tensor:
        x, count = x.float().contiguous(), x.shape[0]
        y = x.new_empty(count, self._rows)
        parts = threads() if count * self.words.size >= WORTH else 1
        self._multiplied(x.data_ptr(), self.words, y.data_ptr(), count, parts)
        return y

    @property
    def nbytes(self) -> int:
        return self.words.nbytes
