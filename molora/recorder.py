"""Forward hooks on the routers -> a device buffer -> rows of a RoutingTrace, in the pass that makes the answer.

Axes: T tokens, N tokens of one pass, L layers, P projections, E experts, K picked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from molora.arriving import Arriving
from molora.errors import MoloraError
from molora.fast.adapter import Picked
from molora.grid import RouterGrid
from molora.layers import Routing
from molora.likeliest import Likeliest
from molora.trace import First, RoutingTrace, no_candidates


class _Coming(NamedTuple):
    """The rows of the last pass, where they are not kept yet."""

    at: slice
    by_hooks: bool
    numbers: Arriving
    then: Callable[[NDArray[np.float32]], None] | None


class Recorder:
    """Records one request: hooks stay on its routers while `attached`, and write only while it is `reading`.

    Each pass lands in preallocated buffers on the device, or in what the lean pass gives, and comes to the host in one
    copy. What the host has is only ever added to, so the traces handed out stay true and share their memory.
    """

    def __init__(self, grid: RouterGrid, chunk: int, capacity: int) -> None:
        """`chunk`: the most tokens of one pass; `capacity`: the most tokens of the request."""
        self._grid = grid
        e, k = grid.num_experts, grid.top_k
        device = grid.routers[0].weight.device if grid.routers else torch.device("cpu")
        layers, projections = len(grid.layer_indices), len(grid.projections)
        self._shapes, self._device = [(chunk, layers, projections, width) for width in (e, k, k)], device
        self._reading = 0
        self._taken: list[Tensor] = []
        self._coming: _Coming | None = None
        axes = (capacity, layers, projections)
        self._logits = np.empty((*axes, e), np.float32)
        self._ids = np.empty((*axes, k), np.int16)
        self._weights = np.empty((*axes, k), np.float32)
        self._token_ids = np.empty(capacity, np.int32)
        self._phase = np.empty(capacity, np.uint8)
        self._text: list[str] = []
        self._layer_indices = np.array(grid.layer_indices, np.int16)
        self._kept: Sequence[NDArray[Any]] = (self._logits, self._ids, self._weights) if grid.routers else ()

    def __len__(self) -> int:
        return len(self._text)

    @cached_property
    def _buffers(self) -> list[Tensor]:
        """Each [N, L, P, ...]; apart, so that what comes to the host lies there as it is to be kept. Made where hooks
        write: the lean pass needs none."""
        return [torch.full(shape, torch.nan, device=self._device) for shape in self._shapes]

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Hooks on, and off again on every way out."""
        write = self._write if self._grid.uses_cache else self._write_last
        handles = [
            router.register_forward_hook(partial(write, *divmod(slot, len(self._grid.projections))))
            for slot, router in enumerate(self._grid.routers)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def reading(self, num_tokens: int) -> Iterator[None]:
        """Records the one forward pass of `num_tokens` tokens made inside; other requests' passes are not seen."""
        self._reading = num_tokens
        try:
            yield
        finally:
            self._reading = 0

    def _write(self, layer: int, projection: int, _router: Any, _args: tuple[Any, ...], routing: Routing) -> None:
        if not self._reading:
            return
        for buffer, part in zip(self._buffers, routing, strict=True):
            buffer[: self._reading, layer, projection] = part[0]  # [N, E], or [N, K]

    def _write_last(self, layer: int, projection: int, router: Any, args: tuple[Any, ...], routing: Routing) -> None:
        """For a pass that reads earlier tokens again."""
        if self._reading:
            self._write(layer, projection, router, args, Routing(*(part[:, -self._reading :] for part in routing)))

    def take(self, picked: Sequence[Picked]) -> None:
        """What the routers decided in a pass that runs without hooks, in their order; it has to stay until `append`."""
        if self._grid.routers:
            each = zip(*picked, strict=True)
            self._taken = [parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2) for parts in each]

    def append(
        self,
        token_ids: Sequence[int],
        texts: Sequence[str],
        phase: Sequence[int],
        also: Tensor | None = None,
        then: Callable[[NDArray[np.float32]], None] | None = None,
    ) -> None:
        """Takes over the rows of the pass just made for the tokens that it read.

        also: float32 of any shape that comes to the host in the same copy, for `then` to take.
        The rows of a device come while it makes the next pass: then, or when a trace is asked for, they are kept.
        Raises MoloraError if a router took no part in the pass, or in the one before.
        """
        self._settle()
        at = slice(len(self._text), len(self._text) + len(token_ids))
        rows, by_hooks = self._taken, bool(self._kept) and not self._taken
        if by_hooks:
            rows = [buffer[: len(token_ids)] for buffer in self._buffers]
        self._coming = _Coming(at, by_hooks, Arriving(rows if also is None else [*rows, also]), then)
        self._taken = []
        self._token_ids[at] = token_ids
        self._phase[at] = phase
        self._text += texts
        if self._coming.numbers.here:
            self._settle()

    def _settle(self) -> None:
        """Keeps what comes."""
        coming, self._coming = self._coming, None
        if coming is None:
            return
        numbers = coming.numbers.arrays()
        if coming.by_hooks:
            self._check(numbers[1])
        for kept, own in zip(self._kept, numbers, strict=False):
            rows = kept[coming.at]  # [N, L, P, ...]
            rows[...] = own.reshape(rows.shape)
        if coming.then:
            coming.then(numbers[-1])

    def _check(self, ids: NDArray[np.float32]) -> None:
        """[N, L, P, K] as hooks wrote them: an id is never NaN once it is written."""
        if (silent := np.isnan(ids[-1, ..., 0]).any(axis=-1)).any():
            raise MoloraError(
                f"The router of layer {self._grid.layer_indices[int(silent.argmax())]} was passed by: a fused kernel "
                "seems to route in its stead, which cannot be recorded. Load the model without such kernels."
            )

    def trace(self, meta: dict[str, Any], likeliest: Likeliest | None = None) -> RoutingTrace:
        """All rows so far, without copying them, and what is the `likeliest` after them. Raises MoloraError as `append`
        does."""
        self._settle()
        rows = len(self._text)
        return RoutingTrace.recorded(
            token_ids=self._token_ids[:rows],
            token_text=First(self._text, rows),
            phase=self._phase[:rows],
            router_logits=self._logits[:rows],
            expert_ids=self._ids[:rows],
            expert_weights=self._weights[:rows],
            layer_indices=self._layer_indices,
            projections=self._grid.projections,
            meta=meta,
            **(likeliest.fields(rows) if likeliest else no_candidates(rows)),
        )
