"""What a token costs early and late in a long text, and how much of it is attention: `python -m molora.bench --length`.

Attention reads all keys and values so far, so it grows with them; the record must not. What the record takes is
measured beside: the same tokens are read without one, in turns. What is left beside attention grows a little, too: keys
and values that are read push weights out of the CPU's caches. On a GPU a token is one graph, in which attention is not
told apart.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, NamedTuple

import torch
from tqdm.auto import tqdm

from molora.bench.measuring import tokens, wait
from molora.bench.systems import MOLORA, System
from molora.engine import Engine
from molora.fast.cache import growing_cache
from molora.fast.plan import Plan
from molora.fast.store import step_of
from molora.reading import PREFILL_CHUNK, Reading
from molora.routers import grid_of
from molora.trace import ANSWER, PROMPT

LENGTHS = (10, 1000, 2000, 3950)
_TOKENS = 60
"""Read one by one at each length; the least of their times counts, since other work on the machine only adds. What the
record takes is the median of what it takes for each: it is less than the least of some times hangs on."""


class Cost(NamedTuple):
    """Milliseconds a token, after `length` others."""

    length: int
    token: float
    """All of it: the pass, its record, the trace handed out, the text"""
    unrecorded: float
    """The same without record and trace"""
    attention: float | None
    """The queries' way through as many keys and values in all layers, by itself, after a token as in one; None on a
    GPU"""
    recording_on_over_off: float
    """The median, over the tokens, of the first by the second"""


def costs(engine: Engine, lengths: tuple[int, ...] = LENGTHS) -> list[Cost]:
    """One for each length that the model can read, in their order; read token by token in turns, recorded as the engine
    answers, and not."""
    system = System(engine.model, engine.tokenizer, grid_of(engine.model))
    wanted = [length for length in lengths if length + _TOKENS <= engine.info.context_length]
    ids = tokens({MOLORA: system}, max(wanted, default=0) + _TOKENS)
    readings = [one.reading(len(ids)) for one in (system, system.unrecorded)]
    on_a_gpu = engine.model.get_input_embeddings().weight.is_cuda
    found, at, order = [], 0, Random(0)
    with readings[0].recording(), readings[1].recording():
        for length in tqdm(wanted, desc="late tokens"):
            for reading in readings:
                _read(reading, ids[at:length])
            at, alone = length + _TOKENS, [] if on_a_gpu else [_Attention(engine.model, length).time]
            times: list[list[float]] = [[] for _ in (*readings, *alone)]
            for token in ids[length:at]:
                each = [partial(_one, reading, token, recorded=reading is readings[0]) for reading in readings]
                turns: list[Callable[[], float]] = [*each, *alone]
                for number in order.sample(range(len(turns)), len(turns)):  # each finds what the one before has left
                    times[number].append(turns[number]())
            recorded, unrecorded, *attention = map(min, times)
            record = statistics.median(on / off for on, off in zip(times[0], times[1], strict=True))
            found.append(Cost(length, recorded, unrecorded, attention[0] if attention else None, record))
    return found


def _read(reading: Reading, ids: list[int]) -> None:
    for at in range(0, len(ids), PREFILL_CHUNK):
        part = ids[at : at + PREFILL_CHUNK]
        reading.read(part, [""] * len(part), [PROMPT] * len(part), speaks=False)


def _one(reading: Reading, token: int, *, recorded: bool) -> float:
    """Milliseconds until one token more is read and, where it is recorded, the trace handed out."""
    started = time.perf_counter()
    logits = reading.read([token], [reading.text.push(token)], [ANSWER])
    if recorded:
        reading.trace({})
    wait(logits)
    return 1000 * (time.perf_counter() - started)


class _Attention:
    """One token's attention to so many others in all layers."""

    def __init__(self, model: Any, length: int) -> None:
        config, size = model.config, model.model.layers[0].self_attn.head_dim
        states = torch.randn(1, config.num_key_value_heads, length - 1, size)
        self._query, self._step = torch.randn(config.num_attention_heads, size), step_of(model)
        self._cache = growing_cache(config.num_hidden_layers)
        with torch.inference_mode():
            self._step.many(torch.zeros(1, dtype=torch.int64), self._cache, Plan())  # keeps them in its own dtype
            for layer in self._cache.layers:
                layer.add(states, states)

    @torch.inference_mode()
    def time(self) -> float:
        """In milliseconds."""
        started = time.perf_counter()
        for layer in self._cache.layers:
            self._step.attend(self._query, layer.keys, layer.values)
        return 1000 * (time.perf_counter() - started)
