"""Load: shares of the picks, prompt and answer apart, the uniform line at 1 / E."""

from __future__ import annotations

import numpy as np

from molora import analysis
from molora.trace import ANSWER, PROMPT
from tests.fakes import fake_trace
from viz.figures.load import expert_load


def test_bars_and_cells_are_the_shares_in_percent() -> None:
    trace = fake_trace(40, experts=5)
    data = expert_load(trace).data
    for phase, bars, cells in ((PROMPT, data[0], data[1]), (ANSWER, data[2], data[3])):
        share = analysis.load(trace.select(tokens=trace.phase == phase)).mean(axis=1) * 100  # [L, E]
        np.testing.assert_allclose(cells.z, share, rtol=1e-5)
        np.testing.assert_allclose(bars.y, share.mean(axis=0), rtol=1e-5)


def test_the_uniform_line_stands_at_one_over_e() -> None:
    shapes = expert_load(fake_trace(40, experts=5)).layout.shapes
    assert [(line.y0, line.y1) for line in shapes] == [(20, 20), (20, 20)]


def test_a_side_without_tokens_is_named_so() -> None:
    figure = expert_load(fake_trace(8, template=3, prompt=5))
    assert [note.text for note in figure.layout.annotations][:2] == ["prompt, 5 tokens", "answer, nothing yet"]
    assert not figure.data[2].y.any()


def test_a_model_without_routers_is_named_so() -> None:
    for trace in (fake_trace(0), fake_trace(9, projections=(), experts=1, top_k=0)):
        assert "Nothing was routed" in expert_load(trace).layout.annotations[0].text
