"""The map says what the trace says, in few bytes."""

from __future__ import annotations

import base64
import json
from html import escape

import numpy as np
import plotly.graph_objects as go
import pytest

from molora import analysis
from molora.trace import PROMPT, RoutingTrace
from tests.fakes import fake_trace
from viz.figures.map import ENTROPY_STEPS, routing_map
from viz.palette import expert_colours, lightened, weight_levels
from viz.view import Colour


def colours(figure: go.Figure, block: int) -> np.ndarray:
    """The colour of each cell [L, T], read as Plotly reads it."""
    axis = figure.layout.coloraxis
    at = (cells(figure)[block].z.astype(float) - axis.cmin) / (axis.cmax - axis.cmin)
    stops, shades = np.array([float(stop) for stop, _ in axis.colorscale]), [shade for _, shade in axis.colorscale]
    return np.array(shades)[np.searchsorted(stops, at + 1e-9, side="right") - 1]


def cells(figure: go.Figure) -> list[go.Heatmap]:
    return [trace for trace in figure.data if trace.type == "heatmap"]


@pytest.mark.parametrize("experts", [2, 8, 40, 128])
def test_each_cell_has_the_colour_of_its_top_expert(experts: int) -> None:
    trace = fake_trace(12, experts=experts)
    figure = routing_map(trace)
    palette = np.array(expert_colours(experts))
    assert len(cells(figure)) == 3
    for block in range(3):
        np.testing.assert_array_equal(colours(figure, block), palette[trace.expert_ids[:, :, block, 0].T])


@pytest.mark.parametrize("experts", [8, 128])
def test_weight_is_lightness_of_the_same_hue(experts: int) -> None:
    trace = fake_trace(12, experts=experts)
    levels = weight_levels(experts)
    seen = colours(routing_map(trace, colour="weight"), 1)
    for token, layer in np.ndindex(12, 4):
        full = expert_colours(experts)[trace.expert_ids[token, layer, 1, 0]]
        level = min(int((trace.expert_weights[token, layer, 1, 0] - 0.5) * 2 * levels), levels - 1)
        assert seen[layer, token] == lightened(full, level / (levels - 1))


def test_entropy_is_a_share_in_whole_steps() -> None:
    trace = fake_trace(12)
    codes = cells(routing_map(trace, colour="entropy"))[2].z
    expected = np.rint(analysis.entropy(trace)[:, :, 2].T * ENTROPY_STEPS)
    np.testing.assert_array_equal(codes, expected)


@pytest.mark.parametrize("colour", ["expert", "weight", "entropy"])
def test_what_has_not_run_is_clear(colour: Colour) -> None:
    trace = fake_trace(12)
    trace.expert_ids[4, 2] = -1
    trace.expert_weights[4, 2] = 0
    trace.router_logits[4, 2] = np.nan
    figure = routing_map(trace, colour=colour)
    clear = colours(figure, 0) == "rgba(0,0,0,0)"
    assert clear.sum() == 1
    assert clear[2, 4]
    assert "rgba(0,0,0,0)" not in {stop[1] for stop in figure.layout.coloraxis2.colorscale}


def test_the_line_stands_between_prompt_and_answer() -> None:
    figure = routing_map(fake_trace(12, template=3, prompt=4))
    assert [shape.x0 for shape in figure.layout.shapes] == [6.5]
    assert [note.text for note in figure.layout.annotations] == ["prompt", "answer"]


def test_the_filter_narrows_the_axis_and_hides_the_template() -> None:
    trace = fake_trace(12, template=3, prompt=4)
    assert routing_map(trace, show="both").layout.xaxis.range == (-0.5, 11.5)
    assert routing_map(trace, show="answer").layout.xaxis.range == (6.5, 11.5)
    figure = routing_map(trace, show="prompt")
    assert figure.layout.xaxis.range == (2.5, 6.5)
    shown = (colours(figure, 0) != "rgba(0,0,0,0)").any(axis=0)
    np.testing.assert_array_equal(shown, trace.phase == PROMPT)


def test_the_axis_holds_its_length_while_an_answer_grows() -> None:
    ranges = {routing_map(fake_trace(tokens), length=60).layout.xaxis.range for tokens in (10, 30, 60)}
    assert ranges == {(-0.5, 59.5)}


def test_the_selected_token_is_framed() -> None:
    frame = routing_map(fake_trace(12), selected=9).layout.shapes[-1]
    assert (frame.type, frame.x0, frame.x1) == ("rect", 8.5, 9.5)


def test_chosen_layers_stand_without_gaps_under_their_own_numbers() -> None:
    figure = routing_map(fake_trace(12, layers=9).select(layers=[2, 7, 8], projections=["up_proj"]))
    assert len(cells(figure)) == 1
    assert list(cells(figure)[0].y) == ["2", "7", "8"]
    assert figure.layout.yaxis.range == (2.5, -0.5)


def test_hovering_tells_picks_weights_entropy_and_the_token_escaped() -> None:
    trace = fake_trace(["<b>", *" x" * 5, "<img src=x onerror=alert(1)>", "\n"], template=1, prompt=3)
    shown = cells(routing_map(trace))[1]
    entropy = analysis.entropy(trace)
    for token, layer in np.ndindex(len(trace), 4):
        row = shown.customdata[layer, token]
        assert row[:2].tolist() == trace.expert_ids[token, layer, 1].tolist()
        np.testing.assert_allclose(row[2:4], trace.expert_weights[token, layer, 1] * 100, atol=0.51)
        assert abs(row[4] - entropy[token, layer, 1] * 100) <= 0.51
        assert shown.text[layer][token] == escape(trace.token_text[token].strip(" ") or "␣").replace("\n", "⏎")
    assert "onerror" in shown.text[0][-2]
    assert "<img" not in json.dumps(shown.text)


def test_without_tokens_or_routers_the_figure_says_so() -> None:
    for trace in (fake_trace(0), fake_trace(5, projections=(), experts=1, top_k=0)):
        figure = routing_map(trace)
        assert not figure.data
        assert "routed" in figure.layout.annotations[0].text
    assert "routed" in routing_map(fake_trace(5, prompt=2), show="answer").layout.annotations[0].text


@pytest.fixture(scope="module")
def long_trace() -> RoutingTrace:
    return fake_trace(512, layers=30, prompt=60)


@pytest.mark.parametrize("colour", ["expert", "weight", "entropy"])
def test_cells_are_one_byte_each_on_the_wire(long_trace: RoutingTrace, colour: Colour) -> None:
    packed = json.loads(routing_map(long_trace, colour=colour, hover=False).to_json())
    for block in packed["data"][1:]:
        assert block["z"]["dtype"] == "u1"
        assert len(base64.b64decode(block["z"]["bdata"])) == 30 * 512
        assert "customdata" not in block
    assert len(json.dumps(packed)) < 80_000


def test_the_last_update_with_its_hover_texts_stays_below_a_megabyte(long_trace: RoutingTrace) -> None:
    assert len(routing_map(long_trace).to_json()) < 1_000_000
