"""What a token costs early and late in a long text, and how much of it is attention: `python -m molora.bench --length`.

Attention reads all keys and values so far, so it grows with them; the record must not. What the record takes is
measured beside: the same tokens are read without one, in turns. What is left beside attention grows a little, too: keys
and values that are read push weights out of the CPU's caches.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from molora.bench.measuring import tokens
from molora.bench.systems import MOLORA, System
from molora.engine import Engine
from molora.fast.store import step_of
from molora.reading import PREFILL_CHUNK, Reading
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
    unrecorded: float
    """The same without record and trace"""
    attention: float
    """Of `token`: the queries' way through keys and values, in all layers"""


def costs(engine: Engine, lengths: tuple[int, ...] = LENGTHS) -> list[Cost]:
    """One for each length that the model can read, in their order; read token by token in turns, recorded as the engine
    answers, and not."""
    system = System(engine.model, engine.tokenizer, grid_of(engine.model))
    wanted = [length for length in lengths if length + _TOKENS <= engine.info.context_length]
    ids = tokens({MOLORA: system}, max(wanted, default=0) + _TOKENS)
    readings = [one.reading(len(ids)) for one in (system, system.unrecorded)]
    found, at = [], 0
    for length in wanted:
        for reading in readings:
            _read(reading, ids[at:length])
        at = length + _TOKENS
        with _attention(engine.model) as spent:
            times = [
                (*_one(readings[0], token, spent, recorded=True), _one(readings[1], token, spent, recorded=False)[0])
                for token in ids[length:at]
            ]
        recorded, attention = min((token, part) for token, part, _ in times)
        found.append(Cost(length, recorded, min(unrecorded for *_, unrecorded in times), attention))
    return found


def _read(reading: Reading, ids: list[int]) -> None:
    with reading.recording():
        for at in range(0, len(ids), PREFILL_CHUNK):
            part = ids[at : at + PREFILL_CHUNK]
            reading.read(part, [""] * len(part), [PROMPT] * len(part), speaks=False)


def _one(reading: Reading, token: int, spent: list[float], *, recorded: bool) -> tuple[float, float]:
    """Milliseconds until one token more is read and, where it is recorded, the trace handed out; and those of them that
    are `spent` on attention."""
    spent.clear()
    with reading.recording():
        started = time.perf_counter()
        reading.read([token], [reading.text.push(token)], [ANSWER])
        if recorded:
            reading.trace({})
        return 1000 * (time.perf_counter() - started), 1000 * sum(spent)


@contextmanager
def _attention(model: Any) -> Iterator[list[float]]:
    """The seconds that a model's lean pass spends on one token's attention, layer by layer, as it goes on."""
    step, spent = step_of(model), list[float]()

    def timed(attend: Any) -> Any:
        def attended(*args: Any) -> Any:
            started = time.perf_counter()
            found = attend(*args)
            spent.append(time.perf_counter() - started)
            return found

        return attended

    ways = [name for name in ("attend", "attend_to") if hasattr(step, name)]
    for name in ways:
        setattr(step, name, timed(getattr(step, name)))
    try:
        yield spent
    finally:
        for name in ways:
            delattr(step, name)  # those of its class again
