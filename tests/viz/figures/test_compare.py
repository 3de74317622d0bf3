from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from molora.compare import Comparison, compared
from molora.trace import ANSWER, PROMPT, RoutingTrace
from tests.fakes import fake_trace
from viz.figures.compare import comparison_line, divergence_map, shown_rows, window_part
from viz.figures.difference import MOST_CHARACTERS, text_difference


def branch(trace: RoutingTrace, at: int, shift: float = 2.0) -> RoutingTrace:
    """Another run: from a row on, other tokens and, one layer, other scores; a row before it, scores alone."""
    ids, logits = trace.token_ids.copy(), trace.router_logits.copy()
    ids[at:] += 1000
    logits[at - 1, 2, 1] += shift * np.arange(trace.num_experts, dtype=np.float32)
    return replace(trace, token_ids=ids, router_logits=logits)


@pytest.fixture
def found() -> Comparison:
    one = fake_trace(12)
    return compared(one, branch(one, 10))


def test_the_map_has_a_block_a_projection_and_a_bar_a_layer(found: Comparison) -> None:
    shown = divergence_map(found)
    cells = [part for part in shown.data if part.type == "heatmap"]
    bars = [part for part in shown.data if part.type == "bar"]
    assert [np.asarray(part.z).shape for part in cells] == [(4, 14)] * 3
    np.testing.assert_array_equal(np.asarray(cells[1].z), found.bits[:, :, 1].T)
    assert np.asarray(cells[1].z)[2, 9] == shown.layout.coloraxis.cmax > 0.05
    assert np.isnan(np.asarray(cells[0].z)[:, 10:]).all()
    assert np.asarray(bars[1].x)[2] == pytest.approx(found.bits[9, 2, 1] / 10)
    assert (np.asarray(bars[0].x) == 0).all()


def test_equal_runs_do_not_look_different() -> None:
    trace = fake_trace(9)
    assert divergence_map(compared(trace, trace)).layout.coloraxis.cmax == 0.01


@pytest.mark.parametrize(("show", "phase"), [("prompt", PROMPT), ("answer", ANSWER)])
def test_only_what_the_view_shows_counts(found: Comparison, show: str, phase: int) -> None:
    kept = shown_rows(found, "prompt" if show == "prompt" else "answer")
    assert kept.sum() == (5 if phase == PROMPT else 6)
    shown = divergence_map(found, show="prompt" if show == "prompt" else "answer")
    assert np.asarray(shown.data[0].z).shape[1] == kept.sum()
    assert (shown.layout.coloraxis.cmax > 0.05) == (show == "answer")


def test_a_part_keeps_the_colours_means_and_numbers_of_the_whole(found: Comparison) -> None:
    whole, part = divergence_map(found), divergence_map(found, part=slice(9, 12), texts_once=True)
    assert np.asarray(part.data[0].z).shape == (4, 3)
    assert (part.data[0].x0, list(part.layout.xaxis.range)) == (9, [8.5, 11.5])
    assert part.layout.coloraxis.cmax == whole.layout.coloraxis.cmax
    np.testing.assert_array_equal(part.data[3].x, whole.data[3].x)
    assert part.layout.meta == {"columns": [9, 10, 11], "from": 9}
    assert [len(line) for line in part.data[0].text] == [3]
    assert not part.layout.shapes  # the answer begins before
    assert whole.layout.shapes


def test_a_window_holds_what_the_second_run_alone_read_between_its_tokens(found: Comparison) -> None:
    # rows of the first run: 0 ... 11, -1, -1
    assert window_part(found, "both", 0, 12) == slice(0, 14)
    assert window_part(found, "both", 2, 9) == slice(2, 9)
    assert window_part(found, "both", 9, 12) == slice(9, 14)
    assert window_part(found, "answer", 9, 12) == slice(1, 6)
    assert window_part(found, "prompt", 9, 12) == slice(0, 5)  # nothing of it: all


def test_nothing_in_common_is_said() -> None:
    one = fake_trace(6)
    found = compared(one, replace(one, token_ids=one.token_ids + 100))
    assert "no token of this kind in common" in divergence_map(found).layout.annotations[0].text
    assert "<b>0</b> tokens in both runs, 6 only in the first, 6 only in the second" in comparison_line(found)


def test_both_edits_are_marked_and_texts_escaped() -> None:
    one = fake_trace(["<b>x</b>", *" abcdefgh"])
    one.meta = {"edit": {"words": "<i>one</i>"}}
    shown = json.dumps(
        divergence_map(compared(one, replace(one, meta={"edit": {"words": "two"}}))).to_dict(), default=str
    )
    assert "first run edited: &lt;i&gt;one&lt;/i&gt;; second run edited: two" in shown
    assert "<b>x</b>" not in shown
    assert "&lt;b&gt;x&lt;/b&gt;" in shown


def test_the_line_says_where_they_lie_apart(found: Comparison) -> None:
    line = comparison_line(found)
    assert "<b>10</b> tokens in both runs, 2 only in the first, 2 only in the second" in line
    assert "most in layer 2, up" in line
    assert "<b>0%</b> of picks differ" in line
    assert "apart" not in comparison_line(compared(fake_trace(3, projections=()), fake_trace(3, projections=())))


def test_a_text_difference_is_escaped_and_marked_without_colour() -> None:
    shown = text_difference("Take <b>one</b> now", "Take <i>two</i> now")
    assert "<b>" not in shown
    assert "<i>[-</i><del>" in shown
    assert "<i>{+</i><ins>" in shown
    assert "&lt;" in shown
    assert shown.startswith("Take")
    assert text_difference("<same>", "<same>") == '<p class="same">Both answers say the same.</p>&lt;same&gt;'


def test_a_long_text_is_cut_and_says_so() -> None:
    shown = text_difference("a " * MOST_CHARACTERS, "b " * 10)
    assert len(shown) < 2 * MOST_CHARACTERS
    assert "characters are compared" in shown
