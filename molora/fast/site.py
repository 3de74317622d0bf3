"""Linears that read the same input: the base's product, for one token or for many, and what their adapters add.

Axes: N tokens, P linears, I in_features, O out_features of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from molora.edits import Masks
from molora.fast.adapter import Experts, Picked, PlainLora
from molora.fast.levels import Levels
from molora.fast.product import Product, bias_of, biases_of, is_plain, product
from molora.layers import MoloraLinear


class Site:
    """Linears that read the same input: the base's product, and what their adapters add."""

    def __init__(
        self,
        linears: Sequence[nn.Linear | MoloraLinear],
        pack: bool,
        dtype: torch.dtype,
        experts: type[Experts],
        *,
        apart: bool = False,
    ) -> None:
        """`dtype`: of the products with many tokens; `apart`: whether their results are worked on each for itself."""
        wrapped = [linear for linear in linears if isinstance(linear, MoloraLinear)]
        plain = [linear.base_layer if isinstance(linear, MoloraLinear) else linear for linear in linears]
        self.linears, self._pack, self._dtype, self._apart = plain, pack, dtype, apart
        self._plain = all(map(is_plain, plain))
        self.experts = experts(wrapped) if wrapped and wrapped[0].router is not None else None
        self.lora = PlainLora(wrapped) if wrapped and self.experts is None else None

    @cached_property
    def base(self) -> Product:
        """Packed at the first token that is read alone: a prompt does not wait for it."""
        return product(self.linears, self._pack)

    @property
    def nbytes(self) -> int:
        """What one token reads."""
        return self.base.nbytes + sum(part.nbytes for part in (self.experts, self.lora) if part is not None)

    def __call__(self, x: Tensor, masks: Masks | None, lora: bool, seen: list[Picked]) -> Tensor:
        """x [1, I] -> [1, O of all]; adds to `seen` what routers there are decided. Without routers x may be [N, I]."""
        y = self.base.multiply(x)
        if self.experts is not None:
            y, picked = self.experts.add(x, y, masks)
            seen.append(picked)
        elif self.lora is not None and lora:
            y = self.lora.add(x, y)
        return y

    def many(
        self, x: Tensor, masks: Masks | None, lora: bool, seen: Any, norm: nn.Module | None = None
    ) -> list[Tensor]:
        """The same for x [N, I], or where there is a `norm` for what that makes of it: [N, O] of each, or [N, P*O] of
        all, in the dtype of products with many tokens. `seen`: as the experts take it."""
        if norm is not None:
            x = self._normed(norm, x, seen)
        if self.experts is None and self._few(len(x)):
            return [self(x.float(), None, lora, []).to(self._dtype)]  # what is packed is float32
        read = x.to(self._dtype)
        if self.experts is None and (self._copies or (lora and self._merges)):
            return [F.linear(read, *each) for each in (self._merged if lora else self._joined)]
        parts = self._parts(read)
        if self.experts is not None:
            self.experts.add_many(x, parts, masks, seen)
        elif self.lora is not None and lora:
            parts = [self.lora.add(read, torch.cat(parts, dim=-1))]
        return parts

    def add_many(self, y: Tensor, x: Tensor, masks: Masks | None, lora: bool, seen: Any) -> None:
        """Adds to y [N, O], in place, what `many` gives for the only linear."""
        y += self.many(x, masks, lora, seen)[0]

    def gated(self, x: Tensor, masks: Masks | None, lora: bool, seen: Any, norm: nn.Module | None = None) -> Tensor:
        """silu(gate) * up [N, O] of what `many` gives for the two."""
        if norm is not None:
            x = self._normed(norm, x, seen)
        if self.experts is None:
            gate, up = _halves(self.many(x, masks, lora, seen))
            return F.silu(gate).mul_(up)
        gate, up = self._parts(x.to(self._dtype))
        return self.experts.gate_many(x, gate, up, masks, seen)

    def _normed(self, norm: Any, x: Tensor, seen: Any) -> Tensor:
        """As `normed`, of x [N, I]."""
        return normed(norm, x)

    def _few(self, tokens: int) -> bool:
        """Whether so many are read as a single one is."""
        return self._pack and tokens <= Levels.few and self.base.packed is not None

    def _parts(self, read: Tensor) -> list[Tensor]:
        if not self._plain:
            return [linear(read) for linear in self.linears]
        if self._few(len(read)):
            widths = [linear.out_features for linear in self.linears]
            return [part.contiguous() for part in self.base.multiply(read).to(self._dtype).split(widths, dim=-1)]
        return [F.linear(read, *each) for each in self._weights]

    @property
    def _copies(self) -> bool:
        return self._plain and self._dtype != self.linears[0].weight.dtype

    @property
    def _merges(self) -> bool:
        """Whether plain LoRA is worth a copy of the weights: where single tokens are read from one anyway."""
        return self._plain and self._pack and self.lora is not None

    @cached_property
    def _weights(self) -> list[tuple[Tensor, Tensor | None]]:
        """For many tokens: those of the linears themselves, or copies in another dtype."""
        return [(linear.weight.to(self._dtype), _as(bias_of(linear), self._dtype)) for linear in self.linears]

    @cached_property
    def _joined(self) -> list[tuple[Tensor, Tensor | None]]:
        """The copies of all linears in one; of linears that are read apart, their own."""
        return self._copied(0)

    @cached_property
    def _merged(self) -> list[tuple[Tensor, Tensor | None]]:
        """The same with what plain LoRA there is added: it takes no routing, so it need not stand apart."""
        return self._joined if self.lora is None else self._copied(self.lora.product)

    def _copied(self, added: Tensor | float) -> list[tuple[Tensor, Tensor | None]]:
        weight = torch.cat([linear.weight.detach() for linear in self.linears]).add(added).to(self._dtype)  # [P*O, I]
        bias = _as(biases_of(self.linears), self._dtype)
        if not self._apart:
            return [(weight, bias)]
        widths = [linear.out_features for linear in self.linears]
        biases = [None] * len(widths) if bias is None else bias.split(widths)
        return list(zip(weight.split(widths), biases, strict=True))


def normed(norm: Any, x: Tensor) -> Tensor:
    """RMSNorm."""
    return F.rms_norm(x, norm.weight.shape, norm.weight, norm.variance_epsilon)


def _as(bias: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if bias is None else bias.to(dtype)


def _halves(parts: list[Tensor]) -> Sequence[Tensor]:
    return parts if len(parts) == 2 else parts[0].chunk(2, dim=-1)
