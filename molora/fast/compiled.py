"""The way through a base in 4 bits on a CPU: one call of compiled code for all layers.

Axes: see `kernel`; L layers, V vocabulary.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from copy import copy
from functools import cached_property, partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

from molora.fast.adapter import Picked, numbers
from molora.fast.cache import Among, GrowingLayer, growing_cache
from molora.fast.kernel import BLOCK, TILES, Table, all_turned, attended, best, read_many, read_one, read_tiled
from molora.fast.kernel.helper import helper
from molora.fast.kernel.lanes import LANES
from molora.fast.kernel.several import WIDTH
from molora.fast.kernel.tiles import STEP
from molora.fast.layout import alike, tiled
from molora.fast.linears import CompiledExperts, CompiledSite, norm_arrays, normed
from molora.fast.picks import Picks
from molora.fast.plan import Plan
from molora.fast.step import Layer, Step
from molora.fast.threads import TOKENS, threads
from molora.likeliest import CANDIDATES

_POSITIONS = 256
"""Whose angles are made at once"""
_ALL_SEEN = np.empty((0, 0), np.float32)


class _Layers(NamedTuple):
    """All of a model's, as compiled code takes them."""

    arrays: Table
    """Of `kernel.layers.Layer`"""
    tiled: Table | None
    """Adapters as prompts in bfloat16 read them, see `kernel.passes.read_tiled`; None where none are read so"""
    last: Any
    """The norm behind them, as `kernel.layers.Norm`"""
    unedited: NDArray[np.float32]
    """Masks [routers, 4, E] that change nothing"""
    routers: NDArray[np.int64]
    """[L+1]: where each layer's begin"""
    parts: int
    nbytes: int


class CompiledStep(Step):
    """The same as `Step`, with all layers in one call of compiled code. It keeps to `Step`'s way, but for its linears,
    where a weight turns out to have more than 4 bits or a head is not of whole registers, and for the prompts of a CPU
    that is faster in bfloat16 but has no tiles for it."""

    _site = CompiledSite
    _experts = CompiledExperts
    _warming = False

    def __init__(self, model: Any, pack: bool, prompt_dtype: torch.dtype | None = None) -> None:
        """See `Step`. What compiled code multiplies in bfloat16 has no copies in it for torch, which would take longer
        to make than the first prompt."""
        size = model.model.layers[0].self_attn.head_dim
        self._in_tiles = TILES and prompt_dtype == torch.bfloat16 and not size % STEP
        super().__init__(model, pack, None if self._in_tiles else prompt_dtype)
        kept = torch.float16 if self._in_tiles else torch.float32  # finer still than what a prompt is read in
        self._like = torch.empty(1, self._groups, 0, size, dtype=kept)  # what keys and values are kept as
        self._turns: dict[int, tuple[NDArray[np.float32], ...]] = {}
        self._helpers = [] if size % 16 else self._started()

    def warm_up(self) -> None:
        """Packs weights, then compiles all that passes need, or reads it from disk. Passes that others make meanwhile
        keep to `Step`'s way, so that they need not wait."""
        self._warming = True
        try:
            _ = self._compiled, self._head
            ahead = copy(self)
            ahead._warming = False
            with torch.inference_mode():
                for count in (TOKENS // 4, 2 * TOKENS):
                    cache, tokens = growing_cache(len(self.layers)), torch.zeros(count, dtype=torch.int64)
                    logits, _ = ahead.many(tokens, cache, Plan())
                    ahead.likeliest(logits)
                ahead(tokens[:1], cache, Plan())
        finally:
            self._warming = False

    @cached_property
    def _compiled(self) -> _Layers | None:
        sites = [(layer.qkv, layer.out, layer.gate_up, layer.down) for layer in self.layers]
        made = [[site.compiled if isinstance(site, CompiledSite) else None for site in each] for each in sites]
        if self._size % 16 or any(linears is None for each in made for linears in each):
            return None
        layers = _layers(self.layers, self._norm, made, in_tiles=self._in_tiles)
        for process in self._helpers:
            process.wait()
        return layers

    def _started(self) -> list[subprocess.Popen[bytes]]:
        """Helpers for what passes need that is not on disk: two, with about as much to do each."""
        if self._in_tiles:
            many, other = ["read_tiled"], ["attended_in_tiles"]
        elif self._reads_many:
            many, other = ["read_many"], ["attended_by_many"]
        elif self._dtype == torch.float32:
            many, other = ["all_adapted"], []
        else:
            many, other = ["all_adapted", "all_turned"], ["mixed"]
        halves = (*many, "multiplied", "scored"), (*other, "all_normed", "best", "read_one")
        narrow = *_narrow(self.layers[0]), numbers(self._like).dtype.name
        return [process for names in halves if (process := helper(names, narrow))]

    def likeliest(self, logits: Tensor) -> Tensor:
        rows, size = logits.shape
        if self._warming or rows != 1 or size % BLOCK or logits.dtype != torch.float32:
            return super().likeliest(logits)
        found, logits = torch.empty(2, 1, CANDIDATES), logits.contiguous()
        best(logits.data_ptr(), size, found.numpy()[:, 0])
        return found

    @cached_property
    def _reads_many(self) -> bool:
        """Whether many tokens go through all layers in one call, too."""
        return self._in_tiles or (self._dtype == torch.float32 and not self._size % (2 * LANES))

    @property
    def _ready(self) -> _Layers | None:
        """None where passes keep to `Step`'s way."""
        return None if self._warming else self._compiled

    @property
    def nbytes(self) -> int:
        if self._compiled is None:
            return super().nbytes
        return self._head.nbytes + self._norm_bytes + self._compiled.nbytes

    def _seen(self, tokens: int) -> Any:
        if self._warming:
            return super()._seen(tokens)
        return Picks(self._routed, tokens, partial(np.empty, dtype=np.float32))

    def _picked(self, seen: Any) -> list[Picked]:
        return seen.all() if isinstance(seen, Picks) else super()._picked(seen)

    def __call__(self, token: Tensor, cache: DynamicCache, plan: Plan) -> tuple[Tensor, list[Picked]]:
        if (layers := self._ready) is None:
            return super().__call__(token, cache, plan)
        x, picks = self._embedding[token], self._seen(1)  # [1, I]
        turn = self._turn_at(cache.get_seq_length())
        arrays, *given = self._through(layers, turn, cache, 1, plan)
        read_one(x.numpy()[0], arrays, layers.last, numbers(self._like), *given, picks.rows[0], layers.parts)
        return self._head.multiply(x), picks.of_one()

    def many(
        self,
        tokens: Tensor,
        cache: DynamicCache,
        plan: Plan,
        kept: int | Tensor = 1,
        among: Among | None = None,
    ) -> tuple[Tensor, list[Picked]]:
        in_line = among is None or among.places is None
        if not self._reads_many or not in_line or (layers := self._ready) is None:
            return super().many(tokens, cache, plan, kept, among)
        x, past, count = self._embedding[tokens], cache.get_seq_length(), len(tokens)  # [N, I]
        positions = torch.arange(past, past + count) if among is None else among.positions
        turn, picks = tuple(one.numpy() for one in self._angles(x, positions)), self._seen(count)
        arrays, *given = self._through(layers, turn, cache, count, plan)
        rest = *given, picks.rows, _hidden(among), layers.parts
        if self._in_tiles:
            read_tiled(x.numpy(), arrays, layers.tiled, *rest)
        else:
            read_many(x.numpy(), arrays, *rest)
        return self._last(x, kept), self._picked(picks)

    def _last(self, x: Tensor, kept: int | Tensor) -> Tensor:
        """Of one token as it is read alone, once that is packed: a quarter of the time, of which the rest is a tenth of
        a short prompt's."""
        if self._warming or not isinstance(kept, int) or kept != 1 or "_head" not in vars(self):
            return super()._last(x, kept)
        return self._head.multiply(normed(self._norm, x[-1:]))

    def _turn_at(self, position: int) -> tuple[NDArray[np.float32], ...]:
        """Cosines and signed sines [D] of a position. They are kept: for one they take as long as half a layer."""
        block, own = divmod(position, _POSITIONS)
        if block not in self._turns:
            some = torch.arange(block * _POSITIONS, (block + 1) * _POSITIONS)
            self._turns[block] = tuple(one.numpy() for one in self._angles(self._embedding[:1], some))  # [256, D] each
        return tuple(one[own] for one in self._turns[block])

    def _through(self, layers: _Layers, turn: Any, cache: DynamicCache, count: int, plan: Plan) -> tuple[Any, ...]:
        """What takes so many new tokens through all layers."""
        places = [kept.make_room(count, self._like) for kept in cache.layers]  # the same in all of them
        kept = np.array([kept.buffer.data_ptr() for kept in cache.layers])
        shape = self._groups, cache.layers[0].buffer.shape[3], places[0]
        lora = plan.attention, plan.mlp
        return layers.arrays, turn, self._scale, kept, shape, lora, _masks(layers, plan)

    def _turn_many(
        self,
        states: Tensor,
        turn: tuple[Tensor, Tensor],
        kept: GrowingLayer,
        dtype: torch.dtype,
        places: Tensor | None = None,
    ) -> Tensor:
        alone = self._warming or self._in_tiles  # and then nothing compiled reads what is kept
        if alone or self._size % (2 * LANES) or states.dtype != dtype or places is not None:
            return super()._turn_many(states, turn, kept, dtype, places)
        cos, sin = (one[:, 0].numpy() for one in turn)  # [N, D]
        query = states.new_empty(self._heads, len(states), self._size)
        place = kept.make_room(len(states), self._like)
        given = numbers(states), cos, sin, self._scale, numbers(query), numbers(kept.buffer[:, 0])
        all_turned(*given, place, threads() if len(states) >= TOKENS else 1)
        return query

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is not None or self._ready is None or keys.dtype != self._like.dtype:
            return super().attend(query, keys, values, mask)
        (_, groups, total, size), found = keys.shape, torch.empty_like(query)
        shape, parts = (groups, keys.stride(1) // size, total), max(1, min(threads(), total // TOKENS))
        places = keys.data_ptr(), values.data_ptr(), shape, numbers(self._like)
        attended(query.numpy(), self._scale, *places, found.numpy(), parts)
        return found.flatten()[None]


def _layers(layers: Sequence[Layer], last: Any, made: Sequence[Any], *, in_tiles: bool) -> _Layers:
    """Of each layer its linears, which are compiled."""
    every = [linears for each in made for linears in each]
    arrays = [linears.arrays if in_tiles else linears.arrays_of_many for linears in every]
    same = alike([adapter for *_, adapter in arrays])
    linears, given = iter([(*base, adapter) for (*base, _), adapter in zip(arrays, same, strict=True)]), []
    for layer in layers:
        qkv, out, gate_up, down = islice(linears, 4)
        given.append((norm_arrays(layer.norm), qkv, out, norm_arrays(layer.mlp_norm), gate_up, down))
    routers = np.cumsum([0, *(gate_up.routers + down.routers for *_, gate_up, down in made)])
    routed = [one.unedited for one in every if one.routers] or [every[0].unedited]
    parts, nbytes = max(one.parts for one in every), sum(one.nbytes for one in every)
    again = [tiled(one, first) for one, (_, first, *_) in zip(same, arrays, strict=True)] if in_tiles else []
    by_layer = Table([tuple(again[at : at + 4]) for at in range(0, len(again), 4)]) if in_tiles else None
    return _Layers(Table(given), by_layer, norm_arrays(last), np.concatenate(routed), routers, parts, nbytes)


def _narrow(layer: Layer) -> tuple[str, ...]:
    """Of which type its adapters' routers, A's and B's are, as those of most models are in all layers."""
    sites = layer.qkv, layer.out, layer.gate_up, layer.down
    routed = [site.experts.arrays for site in sites if site.experts]
    plain = [site.lora.arrays for site in sites if site.lora]
    a, b = ([one[at + 2] for one in routed] + [one[at] for one in plain] for at in (0, 1))
    every = [one[0] for one in routed], a, b
    return tuple("float32" if any(one.dtype == np.float32 for one in each) else "uint16" for each in every)


def _hidden(among: Among | None) -> NDArray[np.float32]:
    """See `kernel.causal.attended_by_many`."""
    if among is None:
        return _ALL_SEEN
    count, length = among.seen.shape
    hidden = torch.zeros(count, -(-length // WIDTH) * WIDTH)
    hidden[:, :length].masked_fill_(~among.seen, -torch.inf)
    return hidden.numpy()


def _masks(layers: _Layers, plan: Plan) -> NDArray[np.float32]:
    """[routers, 4, E]"""
    if not plan.masks:
        return layers.unedited
    masks = layers.unedited.copy()
    for number, own in plan.arrays.items():
        masks[layers.routers[number] : layers.routers[number + 1]] = np.concatenate(own)
    return masks
