"""The lean pass of single tokens with all that is not a product of the base, norm or attention in fused kernels."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

from molora.fast.adapter import Picked
from molora.fast.cache import Appended, Placed, growing_cache
from molora.fast.gpu.fused import Fused, normed, turned
from molora.fast.gpu.likeliest import likeliest_of_one
from molora.fast.plan import Plan
from molora.fast.step import Step


class _Layer(NamedTuple):
    qkv: Fused
    out: Fused
    gate_up: Fused
    down: Fused


class FusedStep(Step):
    """The same as `Step`, to whose way it keeps for many tokens."""

    def __init__(self, model: Any) -> None:
        super().__init__(model, pack=False)
        self._fused = [
            _Layer(*(Fused(site) for site in (layer.qkv, layer.out, layer.gate_up, layer.down)))
            for layer in self.layers
        ]

    def likeliest(self, logits: Tensor) -> Tensor:
        return likeliest_of_one(logits)

    @property
    def nbytes(self) -> int:
        return super().nbytes + sum(site.unpicked_bytes for layer in self._fused for site in layer)

    def warm_up(self) -> None:
        """Compiles the kernels, or reads them from disk."""
        cache, tokens = (
            growing_cache(len(self.layers)),
            torch.zeros(1, dtype=torch.int64, device=self._embedding.device),
        )
        with torch.inference_mode():
            self.many(tokens, cache, Plan())
            self(tokens, cache, Plan())

    def read(
        self, token: Tensor, position: Tensor, cache: DynamicCache, plan: Plan, way: Appended | Placed
    ) -> tuple[Tensor, list[Picked]]:
        with torch.cuda.device(token.device) if token.is_cuda else nullcontext():
            return self._read(token, position, cache, plan, way)

    def _read(
        self, token: Tensor, position: Tensor, cache: DynamicCache, plan: Plan, way: Appended | Placed
    ) -> tuple[Tensor, list[Picked]]:
        x = self._embedding[token]  # [1, I]
        angles = self._angles(x, position)  # [1, D]
        picks = _Picks(self._fused, x.device)
        layers = zip(self.layers, self._fused, cache.layers, strict=True)
        for number, (layer, fused, kept) in enumerate(layers):
            masks = plan.tensors.get(number, (None, None))
            states = fused.qkv.joined(normed(layer.norm, x), plan.attention)
            query, keys, values = turned(states, angles, position, (self._heads, self._groups, self._size), kept, way)
            y = self.attend(query, keys, values, way.mask)
            x = fused.out.joined(y, plan.attention, onto=x)
            inner = fused.gate_up.gated(normed(layer.mlp_norm, x), plan.mlp, masks[0], picks.next(fused.gate_up))
            x = fused.down.joined(inner, plan.mlp, masks[1], picks.next(fused.down), onto=x)
        return self._head.multiply(normed(self._norm, x)), picks.all()


class _Picks:
    """What the routers of one pass decide, in their order."""

    def __init__(self, layers: list[_Layer], device: torch.device) -> None:
        sites = [site for layer in layers for site in layer if site.routes]
        self._e, self._k = sites[0].routing if sites else (0, 0)
        routers = sum(len(site.outputs) for site in sites)
        self._rows = torch.empty(routers, self._e + 2 * self._k, device=device)  # [L*P, E+2K]
        self._at = 0

    def next(self, site: Fused) -> Tensor | None:
        """Where the next routers write, [P, E+2K]."""
        if not site.routes:
            return None
        self._at += len(site.outputs)
        return self._rows[self._at - len(site.outputs) : self._at]

    def all(self) -> list[Picked]:
        e, k, rows = self._e, self._k, self._rows
        return [Picked(rows[:, :e], rows[:, e : e + k], rows[:, e + k :])] if len(rows) else []
