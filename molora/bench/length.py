"""What a token costs early and late in a long text, and how much of it is attention: `python -m molora.bench --length`.

Attention reads all keys and values so far, so it grows with them; everything else, the record included, must not.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch

from molora.bench.measuring import tokens
from molora.bench.systems import MOLORA, System
from molora.engine import Engine
from molora.fast.store import step_of
from molora.reading import PREFILL_CHUNK
from molora.routers import grid_of
from molora.trace import ANSWER, PROMPT

LENGTHS = (10, 1000, 2000, 3950)
_TOKENS = 25
"""Read one by one at each length; the least of their times counts, since other work on the machine only adds."""


class Cost(NamedTuple):
    """Milliseconds a token, after `length` others."""

    length: int
    token: float
    """All of it: the pass, its record, the trace handed out, the text"""
    attention: float
    """The queries' way through keys and values alone, in all layers"""

    @property
    def rest(self) -> float:
        return self.token - self.attention


def costs(engine: Engine, lengths: tuple[int, ...] = LENGTHS) -> list[Cost]:
    """One for each length that the model can read, in their order; recorded, as the engine answers."""
    system = System(engine.model, engine.tokenizer, grid_of(engine.model))
    wanted = [length for length in lengths if length + _TOKENS <= engine.info.context_length]
    ids = tokens({MOLORA: system}, max(wanted) + _TOKENS)
    reading = system.reading(len(ids))
    found, at = [], 0
    with reading.recording():
        for length in wanted:
            while at < length:
                part = ids[at : min(length, at + PREFILL_CHUNK)]
                reading.read(part, [""] * len(part), [PROMPT] * len(part), speaks=False)
                at += len(part)
            times = []
            for token in ids[at : at + _TOKENS]:
                started = time.perf_counter()
                reading.read([token], [reading.text.push(token)], [ANSWER])
                reading.trace({})
                times.append(1000 * (time.perf_counter() - started))
            at += _TOKENS
            found.append(Cost(length, min(times), _attention(engine.model, at)))
    return found


def table(found: list[Cost]) -> str:
    lines = ["| tokens before | a token, ms | attention, ms | all else, ms |", "| ---: | ---: | ---: | ---: |"]
    lines += [f"| {one.length:,} | {one.token:.1f} | {one.attention:.1f} | {one.rest:.1f} |" for one in found]
    return "\n".join(lines)


def _attention(model: Any, length: int) -> float:
    """Milliseconds of one token's attention in all layers, each with keys and values of its own."""
    config, step = model.config, step_of(model)
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    query = torch.randn(heads, size)
    layers = [torch.randn(2, 1, groups, length, size) for _ in range(config.num_hidden_layers)]
    times = []
    for _ in range(_TOKENS):
        started = time.perf_counter()
        for keys, values in layers:
            step.attend(query, keys, values)
        times.append(1000 * (time.perf_counter() - started))
    return min(times)
