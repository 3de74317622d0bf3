"""The overview counts what it says, in few values."""

from __future__ import annotations

import numpy as np
import pytest

from molora.trace import ANSWER
from tests.fakes import fake_trace
from viz.figures.overview import BINS, dominant, overview


def test_each_value_is_the_expert_with_the_most_weight() -> None:
    trace = fake_trace(50, layers=7)
    found = dominant(trace, trace.phase == ANSWER, 4, 3)  # [P * G, B]
    parts = np.array_split(np.arange(7), 3)
    assert found.shape == (9, 13)
    for block, group, at in np.ndindex(3, 3, 13):
        sums = np.zeros(8)
        for token in range(at * 4, min(at * 4 + 4, 50)):
            for layer in parts[group]:
                if trace.phase[token] == ANSWER:
                    np.add.at(sums, trace.expert_ids[token, layer, block], trace.expert_weights[token, layer, block])
        expected = sums.argmax() if sums.any() else np.nan
        np.testing.assert_equal(found[block * 3 + group, at], np.float32(expected))


def test_what_was_not_picked_is_a_gap() -> None:
    trace = fake_trace(12)
    trace.expert_ids[4:8] = -1
    assert np.isnan(dominant(trace, np.ones(12, bool), 4, 1)).tolist() == [[False, True, False]] * 3


@pytest.mark.parametrize("tokens", [20, 599, 601, 4000])
def test_any_length_fits_into_few_values_and_the_axis_is_in_tokens(tokens: int) -> None:
    figure = overview(fake_trace(tokens, layers=6, prompt=5), window=(3, 9))
    cells = figure.data[0]
    rows, bins = cells.z.shape
    assert rows == 9
    assert bins <= BINS
    assert cells.x0 - cells.dx / 2 == -0.5
    assert tokens - 0.5 <= cells.x0 + (bins - 0.5) * cells.dx < tokens - 0.5 + cells.dx
    assert figure.layout.xaxis.range == (-0.5, tokens - 0.5)
    answer, frame = figure.layout.shapes
    assert (answer.x0, frame.name, frame.x0, frame.x1) == (7.5, "window", 2.5, 8.5)
    assert len(figure.to_json()) < 45_000


def test_it_shows_what_the_filter_keeps_and_says_where_nothing_is() -> None:
    figure = overview(fake_trace(30, template=3, prompt=7), show="prompt")
    assert figure.layout.xaxis.range == (2.5, 9.5)
    assert not figure.layout.shapes
    for trace in (fake_trace(0), fake_trace(5, projections=(), experts=1, top_k=0)):
        assert "routed" in overview(trace).layout.annotations[0].text
