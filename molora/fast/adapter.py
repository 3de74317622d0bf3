"""The adapters of linears that read the same input: for one token only the picked experts are read, for many all.

Axes: N tokens, P linears that read one input, E experts, K picked, R rank, I in_features, O out_features of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from molora.edits import Masks
from molora.fast.pages import placed_tensor
from molora.layers import MoloraLinear, choose, gated


class Picked(NamedTuple):
    """What P routers decided for one token, or, with an axis N ahead, for many."""

    logits: Tensor
    """float32 [P, E]"""
    expert_ids: Tensor
    """int64 [P, K]"""
    weights: Tensor
    """float32 [P, K]"""


class PlainLora:
    """LoRA of one rank and without a router on linears of any widths."""

    def __init__(self, linears: Sequence[MoloraLinear]) -> None:
        self._a = torch.cat([linear.lora_A.detach() for linear in linears])  # [P*R, I]
        self._b = [linear.lora_B.detach().T * linear.scaling for linear in linears]  # P of [R, O]

    @property
    def nbytes(self) -> int:
        """What one token reads."""
        return self._a.nbytes + self._diagonal.nbytes

    @cached_property
    def _diagonal(self) -> Tensor:
        """B's in blocks [P*R, P*O], for one product."""
        return torch.block_diag(*self._b)

    @property
    def product(self) -> Tensor:
        """What it adds to the weights of the linears [P*O, I]."""
        return self._diagonal.T @ self._a

    @property
    def arrays(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
        """A [P*R, I], B [R, P*O], and where each linear's results begin [P+1], as compiled code takes them."""
        widths = [one.shape[1] for one in self._b]
        return numbers(_narrow(self._a)), numbers(_narrow(torch.cat(self._b, dim=1))), np.cumsum([0, *widths])

    @property
    def narrow(self) -> bool:
        """Whether A's are bfloat16."""
        return _narrow(self._a).dtype == torch.bfloat16

    @property
    def strengths(self) -> Tensor:
        """[P, 1]: see `strength`."""
        a = self._a.view(len(self._b), -1, self._a.shape[1])  # [P, R, I]
        return torch.stack([strength(one, b) for one, b in zip(a, self._b, strict=True)])[:, None]

    @property
    def operands(self) -> tuple[Tensor, Tensor]:
        """A [P, R, I] and, linear after linear, B [R, O], as kernels on a GPU take them."""
        return self._a, torch.cat([one.flatten() for one in self._b])

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """y [N, P*O] and what LoRA adds to it for x [N, I]."""
        return torch.addmm(y, F.linear(x, self._a), self._diagonal)


class Experts:
    """Mixtures of experts of one shape on linears of one width."""

    def __init__(self, linears: Sequence[MoloraLinear]) -> None:
        first, routers = linears[0], [linear.router for linear in linears if linear.router is not None]
        self._p, self._e, self._r, self._k = len(linears), first.num_experts, first.r, routers[0].top_k
        self._width, self._scaling, self._dtype = first.out_features, first.scaling, first.lora_A.dtype
        a = torch.cat([linear.lora_A.detach() for linear in linears])  # [P*E*R, I]
        b = torch.cat([linear.lora_B.detach().T for linear in linears])  # [P*E*R, O]
        self._a = placed_tensor(_narrow(a)).view(self._p * self._e, self._r * first.in_features)  # [P*E, R*I]
        self._b = _narrow(b).view(self._p * self._e, self._r * self._width)  # [P*E, R*O]
        self._router = torch.cat([router.weight.detach().float() for router in routers])  # [P*E, I]
        self._bias = torch.cat([router.bias.detach().float() for router in routers])  # [P*E]
        self._first = (torch.arange(self._p, device=self._a.device) * self._e)[:, None]  # [P, 1]

    @property
    def nbytes(self) -> int:
        """What one token reads: the routers, and the picked experts alone."""
        return self._router.nbytes + self._bias.nbytes + (self._a.nbytes + self._b.nbytes) * self._k // self._e

    @property
    def sizes(self) -> tuple[int, int, int]:
        """P, E and K."""
        return self._p, self._e, self._k

    @property
    def arrays(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], float]:
        """Routers [P, E, I], their bias [P, E], A [P, E, R, I], B [P, E, R, O] and the scaling, as compiled code takes
        them."""
        axes = self._p, self._e, self._r, -1
        router, bias = numbers(_narrow(self._router)), self._bias.view(self._p, self._e).numpy()
        return (
            router.reshape(self._p, self._e, -1),
            bias,
            numbers(self._a).reshape(axes),
            numbers(self._b).reshape(axes),
            float(self._scaling),
        )

    @property
    def narrow(self) -> bool:
        """Whether A's are bfloat16."""
        return self._a.dtype == torch.bfloat16

    @property
    def strengths(self) -> Tensor:
        """[P, E]: see `strength`."""
        axes = self._p, self._e, self._r, -1
        return strength(self._a.view(axes), self._b.view(axes)) * self._scaling

    @property
    def operands(self) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
        """A [P, E, R, I], B [P, E, R, O], routers [P, E, I], their bias [P, E] and the scaling, as kernels on a GPU
        take them."""
        return self._a, self._b, self._router, self._bias, float(self._scaling)

    def add(self, x: Tensor, y: Tensor, masks: Masks | None) -> tuple[Tensor, Picked]:
        """y [1, P*O] and what the experts add to it for x [1, I]; and which they were. Masks are [P, E]."""
        p, k, r = self._p, self._k, self._r
        logits = F.linear(x.float(), self._router, self._bias).view(p, self._e)  # [P, E]
        ids, weights = choose(logits, logits, k, masks)  # [P, K]
        rows = ids if masks is None else ids.clamp_min(0)  # [P, K]
        rows = (rows + self._first if p > 1 else rows).view(-1)  # [P*K]
        a = self._a.index_select(0, rows).to(self._dtype).view(p * k * r, -1)  # [P*K*R, I]
        b = self._b.index_select(0, rows).to(self._dtype).view(p, k * r, self._width)  # [P, K*R, O]
        h = F.linear(x.to(a.dtype), a).view(p, k, r)  # [P, K, R]
        gates = weights.unsqueeze(-1)  # [P, K, 1]
        if masks is not None:  # an expert switched off must add nothing even where it overflows
            h = h.masked_fill(gates == 0, 0)
        h = torch.mul(h, gates, out=torch.empty_like(h)).view(p, 1, k * r)  # [P, 1, K*R], cast in the same kernel
        y = torch.baddbmm(y.view(p, 1, self._width).to(h.dtype), h, b, alpha=self._scaling).view(1, -1).to(y.dtype)
        return y, Picked(logits, ids, weights)

    def add_many(self, x: Tensor, parts: Sequence[Tensor], masks: Masks | None, seen: Any) -> None:
        """Adds to the `parts`, P of [N, O], what the experts give for x [N, I], in place. Which they were goes to
        `seen`, a list of `Picked` here."""
        p, e, r = self._p, self._e, self._r
        a, b = self._many_operands(parts[0].dtype)
        h = F.linear(x.to(a.dtype), a).view(-1, p, e, r)  # [N, P, E, R]
        logits = F.linear(x.float(), self._router, self._bias).view(-1, p, e)  # [N, P, E]
        ids, weights = choose(logits, logits, self._k, masks)  # [N, P, K]
        h = gated(h, ids, weights * self._scaling)
        for number, y in enumerate(parts):
            y.addmm_(h[:, number].flatten(1), b[number])
        seen.append(Picked(logits, ids, weights))

    def _many_operands(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """A [P*E*R, I] and B [P, E*R, O]."""
        p, rows = self._p, self._e * self._r
        return self._a.to(dtype).view(p * rows, -1), self._b.to(dtype).view(p, rows, self._width)

    def gate_many(self, x: Tensor, gate: Tensor, up: Tensor, masks: Masks | None, seen: Any) -> Tensor:
        """silu(gate) * up [N, O] of two linears with what the experts add; may take the place of one of them."""
        self.add_many(x, (gate, up), masks, seen)
        return F.silu(gate).mul_(up)


def strength(a: Tensor, b: Tensor) -> Tensor:
    """The Frobenius norm [..] of what A [.., R, I] and B [.., R, O] would be as a weight [O, I], which is not made."""
    a, b = a.float(), b.float()
    return ((a @ a.mT) * (b @ b.mT)).sum((-2, -1)).sqrt()


def numbers(tensor: Tensor) -> NDArray[Any]:
    """float32, or the bits of others as compiled code takes them, see `kernel`."""
    bits = {torch.bfloat16: torch.uint16, torch.float16: torch.int16}.get(tensor.dtype)
    return (tensor.view(bits) if bits else tensor).numpy()


def _narrow(weight: Tensor) -> Tensor:
    """In bfloat16 if it loses nothing by it, as adapters that were saved so: half as much to read for each token."""
    narrow = weight.bfloat16()
    return narrow if torch.equal(narrow.to(weight.dtype), weight) else weight
