"""One token in depth: the weights are those of the trace, picked ones stand out."""

from __future__ import annotations

import numpy as np
import pytest

from molora import analysis
from tests.fakes import fake_trace
from viz.figures.token import token_title, token_weights


@pytest.mark.parametrize("compact", [True, False])
def test_the_numbers_are_those_of_the_trace(compact: bool) -> None:
    trace = fake_trace(12)
    share = analysis.probabilities(trace)
    cells = [part for part in token_weights(trace, 7, compact=compact).data if part.type == "heatmap"]
    assert len(cells) == 3
    for block, part in enumerate(cells):
        percent = part.customdata.transpose(1, 0, 2) if compact else part.customdata  # [L, E, 2]
        np.testing.assert_allclose(percent[..., 1], share[7, :, block] * 100, atol=0.51)
        for layer in range(4):
            applied = {int(e): percent[layer, e, 0] for e in percent[layer, :, 0].nonzero()[0]}
            ids, weights = trace.expert_ids[7, layer, block], trace.expert_weights[7, layer, block]
            assert applied == pytest.approx(dict(zip(ids.tolist(), weights * 100, strict=True)), abs=0.51)


def test_every_pick_carries_a_mark_besides_its_colour() -> None:
    trace = fake_trace(12)
    for compact, written in ((True, True), (False, True), (False, False)):
        drawn = token_weights(trace, 7, compact=compact, written=written)
        marks = [part for part in drawn.data if part.type == "scatter"]
        assert {part.mode for part in marks} == {"text" if written and not compact else "markers"}
        for block, part in enumerate(marks):
            layers, experts = (part.x, part.y) if compact else (part.y, part.x)
            marked = {(int(layer), int(expert)) for layer, expert in zip(layers, experts, strict=True)}
            picks = {(layer, int(e)) for layer in range(4) for e in trace.expert_ids[7, layer, block]}
            assert marked == picks


def test_weights_are_written_in_the_full_figure() -> None:
    trace = fake_trace(12)
    written = next(part for part in token_weights(trace, 7).data if part.type == "scatter").text
    assert sorted(int(text) for text in written) == sorted(np.rint(trace.expert_weights[7, :, 0] * 100).ravel())


def test_many_experts_and_switched_off_slots_fit() -> None:
    trace = fake_trace(5, experts=128, top_k=4)
    trace.expert_ids[4, :, :, 3] = -1
    figure = token_weights(trace, 4)
    assert len(figure.data[1].x) == 4 * 3


@pytest.mark.parametrize("token", [-1, 12])
def test_without_a_token_the_figure_says_what_to_do(token: int) -> None:
    assert "Choose a token" in token_weights(fake_trace(12), token).layout.annotations[0].text


def test_the_title_is_escaped() -> None:
    title = token_title(fake_trace(["<script>", " a"], template=0, prompt=1), 0)
    assert title == "Token 0 <b>&lt;script&gt;</b>, prompt"
