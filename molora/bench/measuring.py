"""Systems take turns, so that whatever else the machine does falls on all of them alike.

Each ratio is the median over the rounds of a ratio within one round. Axes: N tokens of a pass, S tokens read so far.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence, Set
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from molora.bench.systems import System
from molora.fast import Among
from molora.reading import Reading
from molora.trace import PROMPT

CONTEXT = 50
"""Tokens read before the first token of decode."""
TURN = 4
"""Tokens that a system reads before the next one has its turn."""
BATCH = 8

Turn = Callable[[], float]
"""Does one turn's work; seconds per pass."""
Seconds = dict[str, dict[int, float]]
"""System -> seconds in each round that it took part in."""
SELDOM = 4
"""A slow system takes part in one of so many rounds, which leaves time for more turns of the others."""


class Effort(NamedTuple):
    """How long a job goes on: rounds until the seconds are spent, but not fewer nor more than that."""

    seconds: float
    least: int
    most: int


def interleaved(
    title: str, turns: Mapping[str, Turn], effort: Effort, warm: int = 1, seldom: Set[str] = frozenset()
) -> Seconds:
    """Rounds in which each system has one turn, those of `seldom` in some only; `warm` rounds before are left out.

    Without any, the first system alone has a turn ahead: it would pay for the memory that the others find there.
    """
    times: Seconds = {name: {} for name in turns}
    if not warm:
        next(iter(turns.values()))()
    started = time.perf_counter()
    with tqdm(total=effort.most, desc=title) as bar:
        for number in range(-warm, effort.most):
            if number >= effort.least and time.perf_counter() - started > effort.seconds:
                break
            for name in _order(list(turns), number):
                if number > 0 and number % SELDOM and name in seldom:
                    continue
                seconds = turns[name]()
                if number >= 0:
                    times[name][number] = seconds
            bar.update(number >= 0)
    return times


def _order(names: list[str], number: int) -> list[str]:
    """Of one round: each time another, for a system finds in the caches what the one before it left there."""
    return random.Random(number).sample(names, len(names))


def ratio(seconds: Seconds, over: str, under: str) -> float | None:
    """Median of the ratios within a round; None if one of the two was not measured."""
    one, other = seconds.get(over, {}), seconds.get(under, {})
    return statistics.median(one[number] / other[number] for number in both) if (both := one.keys() & other) else None


def prefill_turns(systems: Mapping[str, System], length: int) -> dict[str, Turn]:
    """Reads a prompt of `length` tokens, from what a request does before its first pass on."""
    ids = tokens(systems, length)

    def turn(system: System) -> Turn:
        def read() -> float:
            started = time.perf_counter()
            reading = system.reading(length)
            with reading.recording():
                _timed(reading, ids)
            return time.perf_counter() - started

        return read

    return {name: turn(system) for name, system in systems.items()}


def decode_turns(systems: Mapping[str, System], rounds: int) -> dict[str, Turn]:
    """Reads one token more, `TURN` times, after `CONTEXT` tokens; there is room for `rounds` turns."""
    ids = tokens(systems, CONTEXT + rounds * TURN)

    def turn(system: System) -> Turn:
        reading = system.reading(len(ids))
        with reading.recording():
            _timed(reading, ids[:CONTEXT])
        rest = iter(ids[CONTEXT:])

        def read() -> float:
            with reading.recording():  # systems share one model: each one's hooks are on in its turn alone
                return sum(_timed(reading, [next(rest)]) for _ in range(TURN)) / TURN

        return read

    return {name: turn(system) for name, system in systems.items()}


def batch_turns(systems: Mapping[str, System], rounds: int) -> dict[str, Turn]:
    """Reads one token more of each of `BATCH` conversations, in one pass, as the engine answers several at once."""
    ids = tokens(systems, CONTEXT)

    def turn(system: System) -> Turn:
        reading = system.reading(BATCH * (CONTEXT + rounds))
        device = system.model.get_input_embeddings().weight.device
        each = torch.arange(BATCH, device=device)
        owners = each.repeat_interleave(CONTEXT)  # [S]
        places = torch.arange(CONTEXT, device=device).repeat(BATCH)  # [S]
        with reading.recording():
            _read_batch(reading, ids * BATCH, owners, places)

        def read() -> float:
            nonlocal owners, places
            owners, places = torch.cat([owners, each]), torch.cat([places, places[-1:].expand(BATCH) + 1])
            with reading.recording():
                return _read_batch(reading, ids[:BATCH], owners, places)

        return read

    return {name: turn(system) for name, system in systems.items() if system.grid.uses_cache}


def tokens(systems: Mapping[str, System], count: int) -> list[int]:
    """Any tokens will do: the time to read one does not hang on which it is."""
    vocabulary: int = next(iter(systems.values())).model.config.vocab_size
    return torch.randint(vocabulary, (count,), generator=torch.Generator().manual_seed(0)).tolist()


def _timed(reading: Reading, ids: Sequence[int]) -> float:
    started = time.perf_counter()
    for logits in reading.prefill(ids, [PROMPT] * len(ids)):
        wait(logits)
    return time.perf_counter() - started


def _read_batch(reading: Reading, ids: Sequence[int], owners: Tensor, places: Tensor) -> float:
    """Seconds to read tokens of several conversations; `owners` and `places` are those of all tokens so far."""
    among = Among.last(len(ids), owners, places)
    last = torch.arange(len(ids) - BATCH, len(ids), device=owners.device)
    blank, phase = [""] * len(ids), [PROMPT] * len(ids)
    started = time.perf_counter()
    wait(reading.read_among(ids, blank, phase, kept=last, among=among))
    return time.perf_counter() - started


def wait(logits: Tensor) -> None:
    """Until a GPU has made them."""
    if logits.is_cuda:
        torch.cuda.synchronize(logits.device)
