"""The base's products for one token: linears that read the same input, at once, packed where nothing is lost by it.

Axes: O out_features of all of them, I in_features, G blocks of 32 weights along I.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from molora.fast.levels import BLOCK, Levels, grid_of


class Packed(NamedTuple):
    """Linears in 4 bits."""

    levels: Levels
    bias: Tensor | None
    """float32 [O]"""

    def floats(self, x: Tensor) -> Tensor:
        """x [N, I] -> float32 [N, O]."""
        y = self.levels.multiply(x)
        return y if self.bias is None else y + self.bias

    @property
    def nbytes(self) -> int:
        return self.levels.nbytes + (0 if self.bias is None else self.bias.nbytes)


class Product(NamedTuple):
    """Linears as one function."""

    multiply: Callable[[Tensor], Tensor]
    """x [1, I] -> [1, O]"""
    nbytes: int
    """What it reads for one token"""
    packed: Packed | None = None


def product(linears: Sequence[nn.Linear], pack: bool) -> Product:
    """`pack`: in 4 bits, if the weights lie on a grid of 16 levels a block, as those of a Q4_1 or Q4_0 file do.

    Linears of bitsandbytes are asked themselves.
    """
    if not all(map(is_plain, linears)):
        nbytes = sum(weight_bytes(one) for linear in linears for one in linear.parameters())
        return Product(lambda x: torch.cat([linear(x) for linear in linears], dim=-1), nbytes)
    if pack and (packed := _packed(linears)) is not None:
        return packed
    weights = [(linear.weight, bias_of(linear)) for linear in linears]
    nbytes = sum(one.nbytes for pair in weights for one in pair if one is not None)
    if len(weights) == 1:
        return Product(lambda x: F.linear(x, *weights[0]), nbytes)
    return Product(lambda x: torch.cat([F.linear(x, *each) for each in weights], dim=-1), nbytes)


def is_plain(linear: nn.Linear) -> bool:
    """Whether its weight is what it multiplies by; those of bitsandbytes unpack it."""
    return type(linear) is nn.Linear


def seems_packable(linear: nn.Linear) -> bool:
    """What the first rows say, which is all that is to say of nearly every weight: a few milliseconds for a model."""
    return is_plain(linear) and packable(linear.weight) and grid_of(linear.weight.detach()[:16]) is not None


def packable(weight: Tensor) -> bool:
    """What compiled code takes on a CPU, where it was measured: with AVX2 and AVX-512, and not on Windows, where it has
    but one thread."""
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return False
    rows, columns = weight.shape
    vectors = torch.backends.cpu.get_cpu_capability().startswith("AVX") and sys.platform != "win32"
    return vectors and columns % BLOCK == 0 and rows % 16 == 0


def weight_bytes(weight: Any) -> int:
    """With the scales of bitsandbytes' blocks: 4 bits are 4.127 a weight under double quantization."""
    total: int = weight.numel() * weight.element_size()
    state = getattr(weight, "quant_state", None)
    if state is not None:
        total += state.absmax.numel() * state.absmax.element_size()
        if state.nested:
            total += state.state2.absmax.numel() * state.state2.absmax.element_size()
    return total


def bias_of(linear: nn.Linear) -> Tensor | None:
    return getattr(linear, "bias", None)


def biases_of(linears: Sequence[nn.Linear]) -> Tensor | None:
    """Side by side [P*O], zeros where one has none; None where none has any."""
    biases = [bias_of(linear) for linear in linears]
    if all(each is None for each in biases):
        return None
    zeros = [linear.weight.new_zeros(linear.out_features) for linear in linears]
    return torch.cat([zero if own is None else own.detach() for own, zero in zip(biases, zeros, strict=True)])


def _packed(linears: Sequence[nn.Linear]) -> Product | None:
    """None if the weights of any block take more than 16 evenly spaced values."""
    if not all(is_plain(linear) and packable(linear.weight) for linear in linears):
        return None
    levels = Levels.of([linear.weight.detach() for linear in linears])
    if levels is None:
        return None
    packed = Packed(levels, biases_of(linears))
    return Product(packed.floats, packed.nbytes, packed)
