"""The lean pass with all that is not a product or attention in fused kernels: of single tokens all, of many most."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

from molora.fast.adapter import Picked
from molora.fast.cache import Among, Appended, GrowingLayer, Placed, growing_cache
from molora.fast.gpu.fused import Fused, FusedExperts, normed, turned
from molora.fast.gpu.likeliest import likeliest_of_one
from molora.fast.picks import Picks
from molora.fast.plan import Plan
from molora.fast.step import Step


class _Layer(NamedTuple):
    qkv: Fused
    out: Fused
    gate_up: Fused
    down: Fused


class FusedStep(Step):
    """The same as `Step`, to whose way it keeps for the products of many tokens."""

    _experts = FusedExperts

    def __init__(self, model: Any) -> None:
        super().__init__(model, pack=False)
        self._sizes = self._heads, self._groups, self._size
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
        with _on(token):
            return self._read(token, position, cache, plan, way)

    def _read(
        self, token: Tensor, position: Tensor, cache: DynamicCache, plan: Plan, way: Appended | Placed
    ) -> tuple[Tensor, list[Picked]]:
        x = self._embedding[token]  # [1, I]
        angles = self._angles(x, position)  # [1, D]
        picks = self._seen(1)
        layers = zip(self.layers, self._fused, cache.layers, strict=True)
        for number, (layer, fused, kept) in enumerate(layers):
            masks = plan.tensors.get(number, (None, None))
            states = fused.qkv.joined(normed(layer.norm, x), plan.attention)
            keys, values = way.room(kept)
            query = turned(states, angles, position, self._sizes, kept.buffer, 1.0)[:, 0]  # [H, D]
            y = self.attend(query, keys, values, way.mask)
            x = fused.out.joined(y, plan.attention, onto=x)
            inner = fused.gate_up.gated(
                normed(layer.mlp_norm, x), plan.mlp, masks[0], picks.next(fused.gate_up.routers)
            )
            x = fused.down.joined(inner, plan.mlp, masks[1], picks.next(fused.down.routers), onto=x)
        return self._head.multiply(normed(self._norm, x)), picks.of_one()

    def many(
        self,
        tokens: Tensor,
        cache: DynamicCache,
        plan: Plan,
        kept: int | Tensor = 1,
        among: Among | None = None,
    ) -> tuple[Tensor, list[Picked]]:
        with _on(tokens):
            return super().many(tokens, cache, plan, kept, among)

    def _turn_many(
        self,
        states: Tensor,
        turn: tuple[Tensor, Tensor],
        kept: GrowingLayer,
        dtype: torch.dtype,
        places: Tensor | None = None,
    ) -> Tensor:
        if places is None:
            at = kept.make_room(len(states), states.new_empty(1, self._groups, 0, self._size))
            places = torch.arange(at, at + len(states), device=states.device)
        return turned(states, turn, places, self._sizes, kept.buffer, self._scale)

    def _seen(self, tokens: int) -> Picks:
        return Picks(self._routed, tokens, partial(torch.empty, device=self._embedding.device))

    def _picked(self, seen: Picks) -> list[Picked]:
        return seen.all()


def _on(tokens: Tensor) -> AbstractContextManager[Any]:
    """Triton starts its kernels on the device at hand."""
    return torch.cuda.device(tokens.device) if tokens.is_cuda else nullcontext()
