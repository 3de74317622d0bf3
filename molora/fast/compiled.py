"""The way through a base in 4 bits on a CPU: products packed for single tokens, and compiled code between them.

Axes: see `kernel`; L layers, V vocabulary.
"""

from __future__ import annotations

from copy import copy
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

from molora.fast.adapter import Picked, numbers
from molora.fast.cache import GrowingLayer, growing_cache
from molora.fast.kernel import BLOCK, all_turned, attended, attended_by_many, best, gated, normed, turned
from molora.fast.kernel.lanes import LANES
from molora.fast.linears import CompiledExperts, CompiledSite, Input, Linears, norm_arrays
from molora.fast.picks import Picks
from molora.fast.plan import Plan
from molora.fast.site import normed as norm_of
from molora.fast.step import Layer, Step
from molora.fast.threads import TOKENS, threads
from molora.likeliest import CANDIDATES


class _Layer(NamedTuple):
    """What one decoder layer is made of; norms are their weight and epsilon."""

    norm: tuple[NDArray[np.float32], float]
    qkv: Linears
    out: Linears
    mlp_norm: tuple[NDArray[np.float32], float]
    gate_up: Linears
    down: Linears


class CompiledStep(Step):
    """The same as `Step`, to whose way it keeps for a prompt, but for its linears, and for single tokens where a weight
    turns out to have more than 4 bits or a head is not of whole registers."""

    _site = CompiledSite
    _experts = CompiledExperts
    _warming = False

    def warm_up(self) -> None:
        """Packs weights, then compiles all that passes need, or reads it from disk. Passes that others make meanwhile
        keep to `Step`'s way, so that they need not wait."""
        self._warming = True
        try:
            _ = self._compiled, self._head
            ahead = copy(self)
            ahead._warming = False
            with torch.inference_mode():
                for count in (TOKENS // 4, 2 * TOKENS):  # for the second's next token several threads are worth it
                    cache, tokens = growing_cache(len(self.layers)), torch.zeros(count, dtype=torch.int64)
                    logits, _ = ahead.many(tokens, cache, Plan())
                    ahead.likeliest(logits)
                    ahead(tokens[:1], cache, Plan())
        finally:
            self._warming = False

    @cached_property
    def _compiled(self) -> list[_Layer] | None:
        if self._size % 16:
            return None
        layers = [_compiled(layer) for layer in self.layers]
        whole = [layer for layer in layers if layer is not None]
        return whole if len(whole) == len(layers) else None

    def likeliest(self, logits: Tensor) -> Tensor:
        rows, size = logits.shape
        if self._warming or rows != 1 or size % BLOCK or logits.dtype != torch.float32:
            return super().likeliest(logits)
        found, logits = torch.empty(2, 1, CANDIDATES), logits.contiguous()
        best(logits.data_ptr(), size, found.numpy()[:, 0])
        return found

    @property
    def _ready(self) -> list[_Layer] | None:
        """None where passes keep to `Step`'s way."""
        return None if self._warming else self._compiled

    @property
    def nbytes(self) -> int:
        if self._compiled is None:
            return super().nbytes
        linears = (one for layer in self._compiled for one in layer if isinstance(one, Linears))
        return self._head.nbytes + self._norm_bytes + sum(one.nbytes for one in linears)

    def _seen(self, tokens: int) -> Any:
        if self._warming:
            return super()._seen(tokens)
        return Picks(self._routed, tokens, partial(np.empty, dtype=np.float32))

    def _picked(self, seen: Any) -> list[Picked]:
        return seen.all() if isinstance(seen, Picks) else super()._picked(seen)

    def __call__(self, token: Tensor, cache: DynamicCache, plan: Plan) -> tuple[Tensor, list[Picked]]:
        layers = self._ready
        if layers is None:
            return super().__call__(token, cache, plan)
        heads, groups, size = self._heads, self._groups, self._size
        x = self._embedding[token]  # [1, I]
        x_at = x.data_ptr()
        cos, sin = (one.numpy()[0] for one in self._angles(x, torch.tensor([cache.get_seq_length()])))  # [D]
        read, inner = Input.room(x.shape[1]), Input.room(layers[0].down.width)
        states, both = torch.empty(heads + 2 * groups, size), torch.empty(2, inner.floats.shape[1])
        query, found = torch.empty(heads, size), Input.room(heads * size)
        states_at, both_at, query_at = states.data_ptr(), both.data_ptr(), query.data_ptr()
        picks = self._seen(1)
        for number, (layer, kept) in enumerate(zip(layers, cache.layers, strict=True)):
            masks = plan.arrays.get(number, (None, None))
            normed(x_at, *layer.norm, read.at, read.halves_at)
            layer.qkv(read, states_at, False, plan.attention)
            place, buffer = kept.place(), kept.buffer  # [2, 1, G, room, D]
            turned(states_at, cos, sin, heads, groups, query_at, buffer.data_ptr(), buffer.shape[3], place)
            self.attend_to(query, kept.keys, kept.values, found)
            layer.out(found, x_at, True, plan.attention)
            normed(x_at, *layer.mlp_norm, read.at, read.halves_at)
            layer.gate_up(read, both_at, False, plan.mlp, masks[0], picks.next(layer.gate_up.routers)[0])
            gated(both_at, both.shape[1], inner.at, inner.halves_at)
            layer.down(inner, x_at, True, plan.mlp, masks[1], picks.next(layer.down.routers)[0])
        return self._head.multiply(norm_of(self._norm, x)), picks.of_one()

    def _turn_many(
        self,
        states: Tensor,
        turn: tuple[Tensor, Tensor],
        kept: GrowingLayer,
        dtype: torch.dtype,
        places: Tensor | None = None,
    ) -> Tensor:
        if self._warming or self._size % (2 * LANES) or states.dtype != dtype or places is not None:
            return super()._turn_many(states, turn, kept, dtype, places)
        cos, sin = (one[:, 0].numpy() for one in turn)  # [N, D]
        query = states.new_empty(self._heads, len(states), self._size)
        place = kept.make_room(len(states), turn[0].new_empty(1, self._groups, 0, self._size))
        given = numbers(states), cos, sin, self._scale, numbers(query), kept.buffer[:, 0].numpy()
        all_turned(*given, place, threads() if len(states) >= TOKENS else 1)
        return query

    def _look_many(self, query: Tensor, keys: Tensor, values: Tensor, seen: Tensor | None) -> Tensor:
        if self._warming or seen is not None or self._size % (2 * LANES) or self._dtype != torch.float32:
            return super()._look_many(query, keys, values, seen)
        (groups, total, size), count = keys.shape, query.shape[1]
        found, shape = query.new_empty(count, self._heads, size), (groups, keys.stride(0) // size, total)
        places = keys.data_ptr(), values.data_ptr(), shape
        attended_by_many(query.numpy(), *places, found.numpy(), threads() if count >= TOKENS else 1)
        return found.flatten(1)

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is not None or self._ready is None:
            return super().attend(query, keys, values, mask)
        found = Input.room(query.numel())
        self.attend_to(query, keys, values, found)
        return found.floats

    def attend_to(self, query: Tensor, keys: Tensor, values: Tensor, found: Input) -> None:
        """The same into what linears read next; keys and values are views of a buffer, see `GrowingLayer`."""
        _, groups, total, size = keys.shape
        shape, places = (groups, keys.stride(1) // size, total), (found.at, found.halves_at)
        attended(
            query.numpy(),
            self._scale,
            keys.data_ptr(),
            values.data_ptr(),
            shape,
            *places,
            max(1, min(threads(), total // TOKENS)),
        )


def _compiled(layer: Layer) -> _Layer | None:
    """None if one of its products is not packed."""
    sites = [layer.qkv, layer.out, layer.gate_up, layer.down]
    linears = [made for site in sites if isinstance(site, CompiledSite) and (made := site.compiled) is not None]
    if len(linears) < len(sites):
        return None
    qkv, out, gate_up, down = linears
    return _Layer(norm_arrays(layer.norm), qkv, out, norm_arrays(layer.mlp_norm), gate_up, down)
