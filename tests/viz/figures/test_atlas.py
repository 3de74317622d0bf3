"""The atlas's figures: numbers that are the analysis's, families together, names that cannot run."""

from __future__ import annotations

import numpy as np

from molora import analysis
from molora.atlas.analysis import information, load, place, task_shares
from molora.trace import PROMPT
from tests.fake_atlas import fake_atlas
from tests.fakes import fake_trace
from viz.figures.atlas import task_map
from viz.figures.information import task_information
from viz.figures.place import task_place
from viz.palette import LESS, MORE, diverging_scale


def test_cells_are_points_from_the_mean_and_families_stand_together() -> None:
    atlas = fake_atlas(families=("x", "y", "x", "y"))
    figure = task_map(atlas, part="prompt")
    bars, cells = figure.data
    assert list(figure.layout.yaxis.ticktext) == ["<b>x</b>", "ask", "list", "<b>y</b>", "sort", "find"]
    share = task_shares(atlas, "prompt") * 100
    np.testing.assert_allclose(cells.z[[1, 2, 4, 5]], (share - share.mean(axis=0))[[0, 2, 1, 3]], atol=1e-4)
    assert np.isnan(cells.z[[0, 3]]).all()
    np.testing.assert_allclose(bars.y, load(atlas, "prompt").mean(axis=(0, 1)) * 100, rtol=1e-5)
    np.testing.assert_allclose(cells.customdata[1, :, 0], share[0], rtol=1e-5)
    assert not figure.layout.shapes[1:], "no shape a cell"


def test_colours_are_centred_on_zero_with_red_for_more() -> None:
    axis = task_map(fake_atlas()).layout.coloraxis
    assert axis.cmin == -axis.cmax
    stops = [(float(at), colour) for at, colour in diverging_scale()]
    assert stops[0] == (0.0, f"rgba({LESS},1)")
    assert stops[-1] == (1.0, f"rgba({MORE},1)")
    assert [colour.endswith(",0)") for at, colour in stops if at == 0.5] == [True, True]


def test_names_are_escaped_and_bounded() -> None:
    figure = task_map(fake_atlas(tasks=("<img src=x>", "b" * 90, "list", "find")))
    labels = figure.layout.yaxis.ticktext
    assert "&lt;img src=x&gt;" in labels
    assert max(map(len, labels)) < 40
    assert "<img" not in figure.to_json()


def test_an_atlas_without_tokens_is_named_so() -> None:
    silent = fake_atlas(picks=np.zeros((20, 2, 4, 3, 8), np.uint16))
    for figure in (task_map(silent), task_information(silent)):
        assert "no token of this kind" in figure.layout.annotations[0].text


def test_a_task_without_an_answer_leaves_its_line_empty() -> None:
    atlas = fake_atlas()
    atlas.picks[atlas.labels == 3, 1] = 0
    cells = task_map(atlas, part="answer").data[1].z
    assert np.isnan(cells[-1]).all()
    assert np.isfinite(cells[1]).all()


def test_lines_are_the_information_over_the_shuffled_band() -> None:
    atlas = fake_atlas()
    known = information(atlas, "answer")
    band, *lines = task_information(atlas, part="answer").data
    np.testing.assert_allclose(band.y, known.shuffled_max.max(axis=1), rtol=1e-5)
    assert [line.name for line in lines] == ["gate", "up", "down"]
    np.testing.assert_allclose(lines[1].y, known.nmi[:, 1], rtol=1e-5)
    (_, line) = task_information(atlas, part="answer", layers=(2,), projections=("up_proj",)).data
    assert line.name == "up"
    assert [size > 0 for size in line.marker.size] == [False, False, True, False]


def test_bars_are_the_nearest_tasks_first() -> None:
    atlas, trace = fake_atlas(tasks=tuple("abcdefghij"), families=("x",) * 10, experts=10), fake_trace(40, experts=10)
    (bars,) = task_place(atlas, trace).data
    near = place(analysis.load(trace.select(tokens=trace.phase == PROMPT)), atlas, "prompt")
    np.testing.assert_allclose(bars.x, np.sort(near)[::-1][:8], rtol=1e-5)
    assert bars.customdata[0] == f"{atlas.tasks[near.argmax()]} (x)"
