"""Effects as figures: the numbers reach the bars, zero is in the middle, texts are escaped and bounded."""

from __future__ import annotations

import numpy as np
import pytest

from molora.effects import Effect
from viz.figures.effects import sweep, token_changes
from viz.palette import expert_colours


def test_each_token_has_its_bar_and_zero_is_in_the_middle() -> None:
    change = np.array([0.5, -2.0, 0.0], np.float32)
    figure = token_changes([" It", " depends", "."], change, edit="without expert 3")
    np.testing.assert_allclose(figure.data[0].y, change)
    assert figure.layout.coloraxis.cmin == -figure.layout.coloraxis.cmax == -2.0
    assert figure.layout.yaxis.range[0] == -figure.layout.yaxis.range[1]
    assert list(figure.layout.xaxis.ticktext) == ["It", "depends", "."]
    assert "edited: without expert 3" in figure.layout.annotations[0].text
    assert "mean -0.500 nats a token, largest -2.000" in figure.layout.annotations[0].text


def test_what_tokens_say_stays_text() -> None:
    figure = token_changes(["<b>x</b>", "y" * 400], np.zeros(2, np.float32), edit="<i>" + "z" * 400)
    assert "<b>x" not in figure.data[0].customdata[0]
    assert len(figure.layout.xaxis.ticktext[1]) < 20
    assert "<i>" not in figure.layout.annotations[0].text
    assert len(figure.layout.annotations[0].text) < 300


def test_long_answers_name_some_tokens_only() -> None:
    figure = token_changes([f" w{row}" for row in range(512)], np.zeros(512, np.float32))
    assert len(figure.layout.xaxis.ticktext) <= 48
    assert len(figure.data[0].y) == 512


def test_sizes_that_differ_are_named() -> None:
    with pytest.raises(ValueError, match="2 tokens and 3 changes"):
        token_changes(["a", "b"], np.zeros(3, np.float32))


def test_a_sweep_shows_what_was_tried_in_the_experts_colours() -> None:
    effects = [Effect(expert, 0.0 - 0.1 * expert, np.zeros(2, np.float32)) for expert in range(3)]
    figure = sweep(effects, 8, where="layer 3 of up_proj")
    assert list(figure.data[0].x) == [0, 1, 2]
    assert tuple(figure.data[0].marker.color) == expert_colours(8)[:3]
    assert list(figure.data[0].text) == ["+0.000", "-0.100", "-0.200"]
    assert figure.layout.xaxis.range == (-0.5, 7.5)
    assert "layer 3 of up_proj" in figure.layout.annotations[0].text


def test_nothing_to_show_is_said() -> None:
    assert "No expert" in sweep([], 8).layout.annotations[0].text
    assert "no token" in token_changes([], np.zeros(0, np.float32)).layout.annotations[0].text
