"""Linears that read one input, in two kernels and the base's own: what their adapters read, and what comes out of all.

Axes: N tokens, P linears, E experts, K picked, R rank, I in_features, O out_features of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
import triton
from torch import Tensor

from molora.edits import Masks
from molora.fast.adapter import Experts
from molora.fast.gpu import kernels
from molora.fast.picks import Picks
from molora.fast.plan import masks_tensor
from molora.fast.site import Site

_READ = 4096
"""Inputs that a program reads at once"""
_READERS = 8
_WRITTEN = 32
"""Outputs that a program writes"""
_WRITERS = 4
"""Warps of a program that reads, and of one that writes"""


class Fused:
    """One site of the lean pass."""

    def __init__(self, site: Site) -> None:
        self._linears = site.linears
        self.outputs = [linear.out_features for linear in site.linears]
        self._e, self._k, self._r, self._scaling = 1, 0, 0, 1.0
        self._a = self._b = self._router = self._bias = torch.empty(0)
        if site.experts is not None:
            own = site.experts.operands
            self._a, self._b, self._router, self._bias, self._scaling = own
            parts, self._e, self._k = site.experts.sizes
        elif site.lora is not None:
            self._a, self._b, self._scaling = *site.lora.operands, 1.0
            parts = len(self._linears)
        if self._a.numel():
            self._r = self._a.numel() // (parts * self._e * self._linears[0].in_features)
        self._projected = len(self._linears) * self._e * self._r

    @property
    def unpicked_bytes(self) -> int:
        """What of the experts that are not picked a token reads all the same: their A."""
        return self._a.nbytes * (self._e - self._k) // self._e if self.routes else 0

    @property
    def routes(self) -> bool:
        return self._k > 0

    @property
    def routers(self) -> int:
        """P, or 0."""
        return len(self._linears) if self.routes else 0

    def joined(self, x: Tensor, lora: bool, masks: Tensor | None = None, rows: Any = None, onto: Any = None) -> Tensor:
        """x [1, I] -> [1, P*O], of up to three linears, added `onto` what is there. See `kernels` for the shapes of
        masks and rows; `lora`: whether what has no router adds anything."""
        bases, (h, logits) = self._bases(x), self._lowered(x, lora)
        out = x.new_empty(1, sum(self.outputs))
        widths = (*self.outputs, 0, 0)[:3]
        blocks = sum(triton.cdiv(width, _WRITTEN) for width in widths)
        own = (*bases, bases[0], bases[0])[:3]
        kernels.raised[(blocks,)](
            *own,
            x if onto is None else onto,
            *self._raising(h, logits, masks, rows),
            out,
            *widths,
            self._scaling,
            onto is not None,
            **self._sizes(h, masks),
        )
        return out

    def gated(self, x: Tensor, lora: bool, masks: Tensor | None = None, rows: Any = None) -> Tensor:
        """silu(first) * second [1, O] of two linears."""
        (gate, up), (h, logits) = self._bases(x), self._lowered(x, lora)
        out = torch.empty_like(gate)
        kernels.gated[(triton.cdiv(self.outputs[0], _WRITTEN),)](
            gate,
            up,
            *self._raising(h, logits, masks, rows),
            out,
            self.outputs[0],
            self._scaling,
            **self._sizes(h, masks),
        )
        return out

    def _bases(self, x: Tensor) -> list[Tensor]:
        return [linear(x) for linear in self._linears]

    def _lowered(self, x: Tensor, lora: bool) -> tuple[Tensor | None, Tensor | None]:
        """h and the logits; None if the adapter has nothing to add."""
        if not self._r or not (lora or self.routes):
            return None, None
        h = x.new_empty(self._projected, dtype=torch.float32)
        logits = x.new_empty(self._bias.shape, dtype=torch.float32)
        block = min(_READ, triton.next_power_of_2(x.shape[-1]))
        kernels.lowered[(self._projected + self._bias.numel(),)](
            x,
            self._a,
            self._router,
            self._bias,
            h,
            logits,
            self._projected,
            INPUTS=x.shape[-1],
            BLOCK=block,
            num_warps=_READERS,
        )
        return h, logits

    def _raising(self, h: Tensor | None, logits: Tensor | None, masks: Tensor | None, rows: Any) -> list[Any]:
        """Of what is not there some other pointer, never read."""
        some = self._bias
        return [some if each is None else each for each in (h, self._b, logits, masks, rows)]

    def _sizes(self, h: Tensor | None, masks: Tensor | None) -> dict[str, Any]:
        rank = 0 if h is None else self._r
        return {
            "E": self._e,
            "R": rank,
            "K": self._k,
            "MASKED": masks is not None,
            "E2": triton.next_power_of_2(self._e),
            "R2": triton.next_power_of_2(max(1, rank)),
            "BLOCK": _WRITTEN,
            "num_warps": _WRITERS,
        }


def normed(norm: Any, x: Tensor) -> Tensor:
    """RMSNorm of x [1, I]."""
    out = torch.empty_like(x)
    size = x.shape[-1]
    block = triton.next_power_of_2(size)
    kernels.normed[(1,)](x, norm.weight, out, norm.variance_epsilon, INPUTS=size, BLOCK=block, num_warps=_READERS)
    return out


def turned(
    states: Tensor,
    angles: tuple[Tensor, Tensor],
    places: Tensor,
    sizes: tuple[int, int, int],
    buffer: Tensor,
    scale: float,
) -> Tensor:
    """States [N, (H+2G)*D] of N tokens, H, G and D -> their queries [H, N, D], turned to their positions and scaled;
    keys and values go to int64 [N] `places` of the cache's buffer."""
    heads, groups, size = sizes
    query = states.new_empty(heads, len(places), size)
    kernels.turned[(heads + 2 * groups, len(places))](
        states,
        *angles,
        places,
        query,
        buffer,
        buffer.shape[3],
        len(places),
        scale,
        HEADS=heads,
        GROUPS=groups,
        SIZE=size,
        BLOCK=triton.next_power_of_2(size),
        num_warps=1,
    )
    return query


class FusedExperts(Experts):
    """The same as `Experts`: what many tokens pick and how it is weighed, some ten kernels of torch's, is one."""

    def add_many(self, x: Tensor, parts: Sequence[Tensor], masks: Masks | None, seen: Picks) -> None:
        p, e, r = self._p, self._e, self._r
        a, b = self._many_operands(parts[0].dtype)
        h = F.linear(x.to(a.dtype), a)  # [N, P*E*R]
        logits = F.linear(x.float(), self._router, self._bias)  # [N, P*E]
        rows = seen.next(p)  # [N, P, E+2K]
        kernels.weighed[(len(x), p)](
            h,
            logits,
            logits if masks is None else masks_tensor(masks),
            rows,
            rows.stride(0),
            float(self._scaling),
            E=e,
            R=r,
            K=self._k,
            MASKED=masks is not None,
            E2=triton.next_power_of_2(e),
            R2=triton.next_power_of_2(r),
            num_warps=1 if e * r <= 512 else 4,
        )
        for number, (y, low) in enumerate(zip(parts, h.chunk(p, dim=-1), strict=True)):
            y.addmm_(low, b[number])
