"""Decode on a GPU: the lean pass recorded as a CUDA graph, and replayed for each of them.

A token of decode is a thousand small kernels; starting them one by one from Python takes longer than they run. Token
and position lie in tensors that each replay reads, keys and values in a room of fixed size, so that nothing the graph
was recorded with changes until the room does. So it is for one token each of several texts.

Axes: N tokens, W tokens that a recording reads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from molora.fast.adapter import Picked
from molora.fast.cache import Among, Placed
from molora.fast.plan import Plan
from molora.fast.step import Step

Output = tuple[Tensor, list[Picked]]

Capture = Callable[[Callable[[], Any], torch.device], tuple[Any, Callable[[], None]]]
"""Work on a device -> the tensors that it fills, and what does it again"""

_log = logging.getLogger(__name__)


class _Pass:
    """What a pass reads in shapes that stay, and its recording once it is made."""

    def __init__(self, cache: DynamicCache, plan: Plan, width: int) -> None:
        """For `width` tokens."""
        self.buffer, self.plan = cache.layers[0].buffer, plan  # [2, 1, G, room, D]
        room, device = self.buffer.shape[3], self.buffer.device
        self.tokens, self.positions, self.places = torch.zeros(3, width, dtype=torch.int64, device=device)
        self.seen = torch.zeros(width, room, dtype=torch.bool, device=device)
        self.again: Callable[[], None] | None = None
        self.output: Output | None = None

    @property
    def width(self) -> int:
        return len(self.tokens)

    def serves(self, cache: DynamicCache, plan: Plan, tokens: int) -> bool:
        """Another buffer of the first layer's keys and values means another room."""
        return self.buffer is cache.layers[0].buffer and self.plan is plan and self.width >= tokens


class GraphedStep:
    """One request's way through `Step` for single tokens and for one token each of several texts; the picks that it
    returns are good until the next."""

    def __init__(self, step: Step, capture: Capture | None = None) -> None:
        """`capture`: None records CUDA graphs."""
        self._step, self._capture = step, capture or cuda_graph
        self._one: _Pass | None = None
        self._each: _Pass | None = None
        self._fails = False

    def __call__(self, token: Tensor, cache: DynamicCache, plan: Plan) -> Output:
        """As `Step` does: token int64 [1]; logits [1, V] and the routers' picks."""
        if self._fails:
            return self._step(token, cache, plan)
        place = _reserved(cache, 1, 1)
        if self._one is None or not self._one.serves(cache, plan, 1):
            self._one = None  # its memory first
            self._one = _prepared(cache, plan, 1, place)
        now = self._one
        now.tokens.copy_(token)
        now.places.fill_(place)
        logits, picked = self._made(now, lambda: self._read(now, cache))
        return logits.clone(), picked

    def many(
        self, tokens: Tensor, cache: DynamicCache, plan: Plan, kept: int | Tensor = 1, among: Among | None = None
    ) -> Output:
        """As `Step.many` does. What comes again and again, the next token of each of several texts, is recorded, for as
        many as there were at first: for those that have ended, others are read twice."""
        count = len(tokens)
        goes_on = isinstance(kept, Tensor) and len(kept) == count and cache.get_seq_length() > 0
        if self._fails or among is None or not goes_on:
            return self._step.many(tokens, cache, plan, kept, among)
        place = _reserved(cache, count, max(count, self._each.width if self._each else 0))
        if self._each is None or not self._each.serves(cache, plan, count):
            self._each = None
            self._each = _prepared(cache, plan, count, place)
        now, so_far = self._each, among.seen.shape[1]
        for filled, given in (
            (now.tokens, tokens),
            (now.positions, among.positions),
            (now.seen[:, :so_far], among.seen),
        ):
            filled[:count] = given
            filled[count:] = given[:1]
        torch.arange(place, place + now.width, out=now.places)
        logits, picked = self._made(now, lambda: self._read_each(now, cache))
        return logits[kept], [Picked(*(part[:count] for part in one)) for one in picked]

    def _made(self, now: _Pass, run: Callable[[], Output]) -> Output:
        """What the pass gives: its recording made again, the pass recorded, or, where some kernel cannot be recorded,
        as bitsandbytes' for 8 bits, just made."""
        if now.again is None and not self._fails:
            try:
                now.output, now.again = self._capture(run, now.buffer.device)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                self._fails = True
                _log.warning("Tokens are read without a CUDA graph: %s", str(error).partition("\n")[0])
        if now.again is None or now.output is None:
            return run()
        now.again()
        return now.output

    def _read(self, now: _Pass, cache: DynamicCache) -> Output:
        room = torch.arange(now.buffer.shape[3], device=now.buffer.device)
        hidden = torch.zeros_like(room, dtype=now.buffer.dtype).masked_fill_(room > now.places, -torch.inf)  # [room]
        return self._step.read(now.tokens, now.places, cache, now.plan, Placed(now.places, hidden[None, None, None]))

    def _read_each(self, now: _Pass, cache: DynamicCache) -> Output:
        among = Among(now.positions, now.seen, now.places)
        return self._step.many(now.tokens, cache, now.plan, now.width, among)


def _reserved(cache: DynamicCache, tokens: int, width: int) -> int:
    """Where they begin in every layer, with room for `width`."""
    place = 0
    for kept in cache.layers:
        place = kept.place(tokens, width - tokens)
    return place


def _prepared(cache: DynamicCache, plan: Plan, width: int, filled: int) -> _Pass:
    for kept in cache.layers:
        kept.buffer[:, :, :, filled:] = 0  # masked, but 0 times whatever lay there might be NaN
    return _Pass(cache, plan, width)


def cuda_graph(run: Callable[[], Any], device: torch.device) -> tuple[Any, Callable[[], None]]:
    """Records the work, after doing it once for libraries to set themselves up."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device):
        run()  # on the stream at hand: cuBLAS keeps some memory for every stream that it ever saw
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other requests' threads may copy meanwhile
            output = run()

    def again() -> None:
        with torch.cuda.device(device):
            graph.replay()

    return output, again


def decode_of(step: Step, device: torch.device) -> Step | GraphedStep:
    """What reads the tokens of one request."""
    return GraphedStep(step) if device.type == "cuda" else step
