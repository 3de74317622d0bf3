"""Marks stand where the trace says, and words say the same."""

from __future__ import annotations

import pytest

from tests.fakes import fake_trace
from viz.figures.map import routing_map
from viz.figures.mark import cell_words, layer_groups
from viz.figures.strip import token_strip


def test_a_part_of_a_trace_keeps_its_row_numbers() -> None:
    trace = fake_trace(40, template=3, prompt=7)
    part = trace.select(tokens=slice(8, 20))
    figure = routing_map(part, offset=8, selected=12, place=(2, "up_proj"))
    assert figure.data[1].x0 == 8
    assert figure.data[1].z.shape == (4, 12)
    assert figure.layout.xaxis.range == (7.5, 19.5)
    answer, token, halo, cell = figure.layout.shapes
    assert answer.x0 == 9.5
    assert (token.name, token.x0, token.x1) == ("token", 11.5, 12.5)
    assert (cell.name, cell.yref, cell.y0, cell.y1) == ("cell", "y2", 1.5, 2.5)
    assert halo.line.width > cell.line.width
    assert [shape.name for shape in routing_map(part, offset=8, selected=3).layout.shapes] == [None]
    strip = token_strip(part, offset=8, selected=12)
    assert strip.count("data-t=") == 12 + strip.split("</style>")[0].count("data-t=")
    assert 'data-t="19"' in strip
    assert "w12 · token 12, answer" in strip
    assert strip.count("aria-pressed=true") == 1


def test_ten_layers_are_a_group_and_few_layers_need_none() -> None:
    notes, shapes = layer_groups(fake_trace(2, layers=25))
    assert [note["text"] for note in notes] == ["0–9", "10–19", "20–24"] * 3
    assert [shape["y0"] for shape in shapes] == [9.5, 19.5] * 3
    assert layer_groups(fake_trace(2, layers=12)) == ([], [])


@pytest.mark.parametrize(("layers", "experts"), [(96, 2), (40, 128)])
def test_a_map_of_many_rows_asks_for_two_pixels_a_row(layers: int, experts: int) -> None:
    figure = routing_map(fake_trace(4, layers=layers, experts=experts), height=360)
    margin, least = figure.layout.margin, figure.layout.meta["least"]
    assert least - margin.t - margin.b >= 2 * 3 * layers
    assert figure.layout.height == max(360, least)


def test_a_cell_is_told_in_words() -> None:
    trace = fake_trace(9)
    trace.expert_ids[5, 2, 1], trace.expert_weights[5, 2, 1] = [3, 1], [0.75, 0.25]
    assert cell_words(trace, 5, (2, "up_proj")) == "layer 2, up: expert <b>3</b> 75%, expert <b>1</b> 25%"
    trace.expert_ids[5, 2, 1] = -1
    assert cell_words(trace, 5, (2, "up_proj")) == "layer 2, up: no pick"
    assert cell_words(trace, 5, (9, "up_proj")) == cell_words(trace, 5, None) == ""
