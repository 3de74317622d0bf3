"""What a recording holds in memory, and that a token more costs the same however long it is."""

from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from molora.arriving import Arriving
from molora.fast.adapter import Picked
from molora.grid import RouterGrid
from molora.layers import Router
from molora.likeliest import CANDIDATES, Likeliest
from molora.recorder import Recorder
from molora.trace import ANSWER, RoutingTrace
from tests.released import make_tokenizer

T, L, P, E, K = 4096, 40, 3, 8, 2
CHUNK = 512


def recorder() -> Recorder:
    routers = [Router(4, E, K) for _ in range(L * P)]
    return Recorder(RouterGrid(routers, list(range(L)), ("gate_proj", "up_proj", "down_proj"), E, K), CHUNK, T)


def read(record: Recorder, count: int) -> None:
    picks = Picked(torch.ones(count, L * P, E), torch.ones(count, L * P, K).long(), torch.ones(count, L * P, K))
    record.take([picks])
    record.append([7] * count, ["piece"] * count, [ANSWER] * count)


def most_bytes(work: Callable[[], object]) -> int:
    """What Python and numpy held at once while it ran, over what they held before."""
    tracemalloc.start()
    try:
        kept = work()
        peak = tracemalloc.get_traced_memory()[1]
        del kept
        return peak
    finally:
        tracemalloc.stop()


def whole() -> tuple[Recorder, RoutingTrace]:
    record = recorder()
    for _ in range(T // CHUNK):
        read(record, CHUNK)
    return record, record.trace({})


def test_the_longest_trace_stays_far_below_a_gigabyte() -> None:
    assert most_bytes(whole) < 64 * 2**20, "both copies of it, and whatever lay between"
    _, trace = whole()
    arrays = (trace.router_logits, trace.expert_ids, trace.expert_weights)
    assert trace.router_logits.shape == (T, L, P, E)
    assert sum(array.nbytes for array in arrays) == T * L * P * (4 * E + 2 * K + 4 * K)
    assert (trace.router_logits == 1).all()
    assert (trace.expert_ids == 1).all()


def test_a_token_more_copies_nothing_of_the_past() -> None:
    record = recorder()

    def more() -> RoutingTrace:
        read(record, 1)
        return record.trace({})

    more()
    early, first = most_bytes(more), record.trace({})
    for _ in range(7):
        read(record, CHUNK)
    late, last = most_bytes(more), record.trace({})
    assert late < early + 2_000
    assert late < L * P * (E + 2 * K) * 4 * 20, "twenty rows of one token; the past has thousands"
    for name in ("router_logits", "expert_ids", "expert_weights", "token_ids", "phase"):
        assert np.shares_memory(getattr(first, name), getattr(last, name)), name


@pytest.mark.parametrize("scored", [False, True])
def test_a_trace_is_one_that_a_check_would_let_pass(scored: bool) -> None:
    record, likeliest = recorder(), Likeliest(make_tokenizer(), T)
    read(record, 3)
    if scored:
        likeliest.keep([2], np.zeros((2, 1, CANDIDATES), np.float32))
    for trace in (record.trace({"model": "m"}, likeliest), record.trace({"model": "m"})):
        names = [field.name for field in dataclasses.fields(RoutingTrace)]
        assert set(vars(trace)) == set(names)
        RoutingTrace(**{name: getattr(trace, name) for name in names})


def test_texts_are_those_read_when_the_trace_was_handed_out() -> None:
    record = recorder()
    traces = []
    for _ in range(3):
        read(record, 2)
        traces.append(record.trace({}))
    assert [len(trace) for trace in traces] == [2, 4, 6]
    whole = traces[-1].token_text
    assert isinstance(whole, list)
    assert traces[-1].token_text is whole
    assert [trace.token_text for trace in traces] == [whole[:2], whole[:4], whole]


@pytest.mark.parametrize("rows", [10, T - 1])
def test_candidates_of_a_token_more_are_kept_in_place(rows: int) -> None:
    likeliest, record = Likeliest(make_tokenizer(), T), recorder()
    read(record, 1)
    found = np.stack([np.arange(CANDIDATES), np.linspace(0.5, 0.1, CANDIDATES)]).astype(np.float32)[
        :, None
    ]  # [2, 1, C]
    likeliest.keep([0], found)
    first = record.trace({}, likeliest)

    def more() -> RoutingTrace:
        likeliest.keep([rows], found)
        return record.trace({}, likeliest)

    assert most_bytes(more) < 10_000
    last = more()
    assert last.candidate_text is first.candidate_text
    assert np.shares_memory(last.candidate_ids, first.candidate_ids)


class Late(Arriving):
    """Stands for a device: never there before it is looked at."""

    looked = 0
    here = False

    def arrays(self) -> list[NDArray[Any]]:
        Late.looked += 1
        return super().arrays()


def test_what_comes_late_is_kept_with_the_next_pass_or_for_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("molora.recorder.Arriving", Late)
    monkeypatch.setattr(Late, "looked", 0)
    record, candidates = recorder(), list[float]()
    for token in range(3):
        picks = Picked(*(torch.full((1, L * P, width), float(token)) for width in (E, K, K)))
        record.take([picks])
        record.append([token], [str(token)], [ANSWER], torch.tensor([token / 2]), candidates.extend)
        assert Late.looked == token, "nobody waits for the pass just made"
    trace = record.trace({})
    assert Late.looked == 3
    for rows in (trace.router_logits, trace.expert_ids, trace.expert_weights):
        assert (rows == np.arange(3)[:, None, None, None]).all()
    assert trace.token_text == ["0", "1", "2"]
    assert candidates == [0, 0.5, 1]
