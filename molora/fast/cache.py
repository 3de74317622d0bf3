"""Keys and values of one request in buffers that grow in steps: adding a token writes a row, and copies nothing else.

The modules of transformers and the lean pass write the same cache, so a request may change between them at any token.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

_ROOM = 256
"""Tokens of the first buffer; each next one has half as much room again, but so many more at least."""
_LARGEST = torch.finfo(torch.float16).max


class GrowingLayer(DynamicLayer):
    """One layer's keys and values."""

    def __init__(self) -> None:
        self.buffer = torch.empty(2, 0, 0, 0, 0)
        self.length = 0
        super().__init__()

    @property
    def keys(self) -> Tensor:
        """What is filled, [1, H, T, D]: a view, made when it is asked for. Those of all layers take longer to make than
        a token's rows to write."""
        return self.buffer[0, :, :, : self.length]

    @keys.setter
    def keys(self, given: Tensor | None) -> None:
        """transformers begins with nothing, and `reset` does again. What else it might set is not in the buffer.

        Raises AttributeError, as for what cannot be set.
        """
        if given is not None and given.numel():
            raise AttributeError("These keys and values can only be added to, or all be left out.")
        self.length = 0

    @property
    def values(self) -> Tensor:
        return self.buffer[1, :, :, : self.length]

    @values.setter
    def values(self, given: Tensor | None) -> None:
        self.keys = given

    def update(self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any) -> tuple[Tensor, Tensor]:
        """Adds N tokens, [1, H, N, D] each; all keys and values so far, [1, H, T, D]."""
        self.add(key_states, value_states)
        return self.keys.to(key_states.dtype), self.values.to(value_states.dtype)

    def add(self, keys: Tensor, values: Tensor) -> None:
        """The same without a look at all of them."""
        self._begin(keys, values)
        at = self.place(keys.shape[2])
        self.buffer[0, :, :, at : self.length] = _as(keys, self.buffer.dtype)
        self.buffer[1, :, :, at : self.length] = _as(values, self.buffer.dtype)

    def push(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """The same for one token's key and value together, [2, 1, H, 1, D]; the layer holds others already."""
        at = self.place()
        self.buffer[:, :, :, at : self.length] = _as(states, self.buffer.dtype)
        return self.keys, self.values

    def place(self, new: int = 1, spare: int = 0) -> int:
        """Where in the buffer [2, 1, H, room, D] the keys and values of new tokens are to be written; `keys` and
        `values` hold those places from now on. Behind them there is room for some to spare. The layer holds others
        already."""
        start, self.length = self.length, self.length + new
        two, batch, heads, room, size = self.buffer.shape
        if (needed := self.length + spare) > room:
            grown = self.buffer.new_empty(two, batch, heads, max(room + max(_ROOM, room // 2), needed), size)
            grown[:, :, :, :start] = self.buffer[:, :, :, :start]
            self.buffer = grown
        return start

    def put(self, places: Tensor, keys: Tensor, values: Tensor) -> None:
        """Writes those of N tokens, [1, H, N, D] each, to their places, int64 [N], which are reserved."""
        self.buffer[0].index_copy_(2, places, _as(keys, self.buffer.dtype))
        self.buffer[1].index_copy_(2, places, _as(values, self.buffer.dtype))

    def make_room(self, new: int, like: Tensor) -> int:
        """The same in a layer that may hold none; `like`: some keys, [1, H, any, D], in the dtype that the caller
        reads and writes, which the buffer has from now on."""
        self._begin(like, like)
        if self.buffer.dtype != like.dtype:
            self.buffer = _as(self.buffer, like.dtype)
        return self.place(new)

    def _begin(self, key_states: Tensor, value_states: Tensor) -> None:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            batch, heads, _, size = key_states.shape
            self.buffer = key_states.new_empty(2, batch, heads, 0, size)


def _as(states: Tensor, dtype: torch.dtype) -> Tensor:
    """What is beyond float16 becomes its largest: infinity times a weight of 0 would reach those who do not see it."""
    if dtype == torch.float16 != states.dtype:
        states = states.clamp(-_LARGEST, _LARGEST)
    return states.to(dtype)


class Appended:
    """One token's key and value after those that are there; it sees all of them."""

    mask = None

    def put(self, kept: GrowingLayer, states: Tensor) -> tuple[Tensor, Tensor]:
        """states [2, 1, G, 1, D] -> keys and values to attend to, [1, G, T, D]."""
        return kept.push(states)

    def room(self, kept: GrowingLayer) -> tuple[Tensor, Tensor]:
        """The same, for the caller to write the states into the buffer."""
        kept.place()
        return kept.keys, kept.values


class Placed(NamedTuple):
    """The same in shapes that stay as the text grows: the whole room is attended to, and what lies behind masked."""

    position: Tensor
    """int64 [1]; the place in the buffer is reserved already"""
    mask: Tensor
    """[1, 1, 1, room] in the model's dtype, added to the scores: -inf behind the position"""

    def put(self, kept: GrowingLayer, states: Tensor) -> tuple[Tensor, Tensor]:
        """states [2, 1, G, 1, D] -> keys and values to attend to, [1, G, room, D]."""
        kept.buffer.index_copy_(3, self.position, states)
        return self.room(kept)

    def room(self, kept: GrowingLayer) -> tuple[Tensor, Tensor]:
        """The same, for the caller to write the states into the buffer."""
        return kept.buffer[0], kept.buffer[1]


class Among(NamedTuple):
    """N tokens of several texts that lie side by side in one sequence of S, themselves the last of it."""

    positions: Tensor
    """int64 [N]: of each in its own text"""
    seen: Tensor
    """bool [N, S]: True where one sees the other"""
    places: Tensor | None = None
    """int64 [N]: where in the cache they come, reserved already, and S is all its room: shapes that stay as the texts
    grow. None: behind what is there"""

    @classmethod
    def last(cls, count: int, owners: Tensor, positions: Tensor) -> Among:
        """The last N tokens of the sequence; int64 [S] of all: whose each is, and where in its text. It sees itself and
        what is before it there."""
        owner, position = owners[-count:, None], positions[-count:, None]  # [N, 1]
        return cls(positions[-count:], (owner == owners) & (positions <= position))


def growing_cache(num_layers: int) -> DynamicCache:
    """For a model whose every layer attends to all of the past."""
    cache = DynamicCache()
    cache.layers = [GrowingLayer() for _ in range(num_layers)]
    return cache
