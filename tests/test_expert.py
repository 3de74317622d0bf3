"""The tokens that an expert took most, in a trace small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from molora.expert import Taken, most_taken
from molora.trace import RoutingTrace
from tests.fakes import fake_trace


@pytest.fixture
def trace() -> RoutingTrace:
    """Five tokens, two routers, one pick each; token 7 stands in rows 0 and 2, row 4 was never routed."""
    trace = fake_trace(5, layers=1, projections=("gate_proj", "up_proj"), experts=3, top_k=1)
    trace.token_ids = np.array([7, 8, 7, 9, 6], np.int32)
    trace.expert_ids[:, 0, :, 0] = [[1, 1], [1, 0], [0, 1], [0, 2], [-1, -1]]
    trace.expert_weights[:, 0, :, 0] = np.array([[0.5, 0.9], [0.25, 1], [1, 0.1], [1, 1], [0, 0]])
    return trace


def test_share_weight_and_rows_by_hand(trace: RoutingTrace) -> None:
    seven, eight = most_taken(trace, 1, np.ones(5, bool))
    assert (seven.token_id, seven.rows, seven.share) == (7, (0, 2), 3 / 4)
    assert seven.weight == pytest.approx((0.5 + 0.9 + 0.1) / 3)
    assert eight == Taken(8, (1,), 0.5, 0.25)


def test_only_the_tokens_asked_for_count(trace: RoutingTrace) -> None:
    taken = most_taken(trace, 1, np.array([False, True, True, True, True]))
    assert [(one.token_id, one.rows, one.share) for one in taken] == [(8, (1,), 0.5), (7, (2,), 0.5)]


def test_of_two_alike_the_one_with_more_rows_comes_first_then_the_earlier() -> None:
    trace = fake_trace(4, layers=1, projections=("mlp",), experts=2, top_k=1)
    trace.token_ids = np.array([3, 9, 5, 5], np.int32)
    trace.expert_ids[:] = 0
    assert [one.token_id for one in most_taken(trace, 0, np.ones(4, bool))] == [5, 3, 9]
    assert len(most_taken(trace, 0, np.ones(4, bool), most=1)) == 1


def test_an_expert_that_was_never_picked_took_nothing(trace: RoutingTrace) -> None:
    trace.expert_ids[:] = 0
    assert most_taken(trace, 2, np.ones(5, bool)) == []
    assert most_taken(fake_trace(3, projections=(), experts=1, top_k=0), 0, np.ones(3, bool)) == []
