"""The summary of a run, its numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from molora.summary import summary
from molora.trace import RoutingTrace
from tests.fakes import fake_trace


@pytest.fixture
def trace() -> RoutingTrace:
    """One router, top-2 of 4, over a template token, a prompt token and two of the answer. Expert 0 has 4 of the 8
    picks, 1 has 2, 2 and 3 have one; the tokens spread evenly over 4, 1, 2 and 3 experts."""
    trace = fake_trace(["<t>", " a", " b", " c"], layers=1, projections=("mlp",), experts=4, template=1, prompt=1)
    trace.expert_ids[:, 0, 0] = [[0, 1], [0, 1], [0, 2], [3, 0]]
    far = -1e4
    trace.router_logits[:, 0, 0] = np.array([[0, 0, 0, 0], [0, far, far, far], [0, far, 0, far], [0, 0, far, 0]])
    return trace


def test_the_numbers_by_hand(trace: RoutingTrace) -> None:
    told = summary(trace)
    assert told is not None
    assert (told.tokens, told.prompt_tokens, told.answer_tokens, told.routers, told.top_k) == (4, 1, 2, 1, 2)
    assert told.load == pytest.approx((0.5, 0.25, 0.125, 0.125))
    assert told.imbalance == pytest.approx(2)
    assert told.variation == pytest.approx(0.375**0.5)  # deviations 1/4, 0, -1/8, -1/8 of a mean of 1/4
    assert told.peak == pytest.approx(0.5)
    assert told.entropy == pytest.approx((1 + 0 + 1 / 2 + np.log(3) / np.log(4)) / 4)
    assert told.pair == (0, 1, 0.5)
    assert [(one.row, one.text) for one in told.confident] == [(1, " a"), (2, " b"), (3, " c")]
    assert [one.row for one in told.torn] == [0, 3, 2]
    assert told.confident[1].entropy == pytest.approx(0.5)


def test_rows_are_those_of_the_whole_trace_when_some_tokens_count(trace: RoutingTrace) -> None:
    told = summary(trace, np.array([False, False, True, True]), most=1)
    assert told is not None
    assert (told.tokens, told.prompt_tokens, told.answer_tokens) == (2, 0, 2)
    assert told.load == pytest.approx((0.5, 0, 0.25, 0.25))
    assert ([one.row for one in told.confident], [one.row for one in told.torn]) == ([2], [3])


def test_experts_even_on_the_whole_may_have_routers_of_their_own() -> None:
    trace = fake_trace(6, layers=2, projections=("mlp",), experts=2, top_k=1)
    trace.expert_ids[:, 0], trace.expert_ids[:, 1] = 0, 1
    told = summary(trace)
    assert told is not None
    assert (told.imbalance, told.variation, told.peak, told.pair) == (1, 0, 1, None)


def test_tokens_that_were_not_routed_are_neither_confident_nor_torn(trace: RoutingTrace) -> None:
    trace.router_logits[1], trace.expert_ids[1] = np.nan, -1
    told = summary(trace)
    assert told is not None
    assert [one.row for one in told.confident] == [2, 3, 0]


@pytest.mark.parametrize("trace", [fake_trace(0), fake_trace(4, projections=(), experts=1, top_k=0)])
def test_where_nothing_was_routed_there_is_none(trace: RoutingTrace) -> None:
    assert summary(trace) is None
    assert summary(trace, np.zeros(len(trace), bool)) is None
