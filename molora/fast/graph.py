"""Single tokens on a GPU: the lean pass recorded as a CUDA graph, and replayed for each of them.

A token of decode is a thousand small kernels; starting them one by one from Python takes longer than they run. Token
and position lie in tensors that each replay reads, keys and values in a room of fixed size, so that nothing the graph
was recorded with changes until the room does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

from molora.fast.adapter import Picked
from molora.fast.cache import Placed
from molora.fast.plan import Plan
from molora.fast.step import Step

Output = tuple[Tensor, list[Picked]]

Capture = Callable[[Callable[[], Any], torch.device], tuple[Any, Callable[[], None]]]
"""Work on a device -> the tensors that it fills, and what does it again"""

_log = logging.getLogger(__name__)


class _Recorded(NamedTuple):
    buffer: Tensor
    """Of the first layer's keys and values: another one means another room"""
    plan: Plan
    output: Output
    again: Callable[[], None]


class GraphedStep:
    """One request's way through `Step` for single tokens; the picks that it returns are good until the next."""

    def __init__(self, step: Step, capture: Capture | None = None) -> None:
        """`capture`: None records CUDA graphs."""
        self._step, self._capture = step, capture or cuda_graph
        self._recorded: _Recorded | None = None
        self._fails = False

    def __call__(self, token: Tensor, cache: DynamicCache, plan: Plan) -> Output:
        """As `Step` does: token int64 [1]; logits [1, V] and the routers' picks."""
        if self._fails:
            return self._step(token, cache, plan)
        position = cache.get_seq_length()
        for kept in cache.layers:
            kept.place()
        buffer = cache.layers[0].buffer  # [2, 1, G, room, D]
        recorded = self._recorded
        if recorded is None or recorded.buffer is not buffer or recorded.plan is not plan:
            self._recorded = None  # its memory first
            for kept in cache.layers:
                kept.buffer[:, :, :, position:] = 0  # masked, but 0 times whatever lay there might be NaN
            self._token, self._position = torch.empty_like(token), torch.empty_like(token)
        self._token.copy_(token)
        self._position.fill_(position)
        if self._recorded is None:
            self._record(cache, plan, buffer)
        if self._recorded is None:
            return self._read(cache, plan)
        self._recorded.again()
        logits, seen = self._recorded.output
        return logits.clone(), seen

    def _record(self, cache: DynamicCache, plan: Plan, buffer: Tensor) -> None:
        """Leaves `_recorded` None where some kernel cannot be recorded, as bitsandbytes' for 8 bits."""
        try:
            output, again = self._capture(lambda: self._read(cache, plan), buffer.device)
            self._recorded = _Recorded(buffer, plan, output, again)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self._fails = True
            _log.warning("Tokens are read without a CUDA graph: %s", str(error).partition("\n")[0])

    def _read(self, cache: DynamicCache, plan: Plan) -> Output:
        buffer = cache.layers[0].buffer
        room = torch.arange(buffer.shape[3], device=buffer.device)
        hidden = torch.zeros_like(room, dtype=buffer.dtype).masked_fill_(room > self._position, -torch.inf)  # [room]
        way = Placed(self._position, hidden[None, None, None])
        return self._step.read(self._token, self._position, cache, plan, way)


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
    """What reads the single tokens of one request."""
    return GraphedStep(step) if device.type == "cuda" else step
