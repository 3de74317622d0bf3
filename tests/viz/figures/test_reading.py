"""A token's two readings: the row that read it and the row before, in numbers that are those of the trace."""

from __future__ import annotations

import re

import numpy as np
import pytest

from molora import analysis
from tests.fakes import fake_trace, with_candidates
from viz.figures.reading import token_readings

TEXTS = {11: " so", 10: "<img src=x onerror=alert(1)>", 3: ""}


def test_read_and_predicted_are_this_row_and_the_one_before() -> None:
    trace = fake_trace(12)
    for html, row in zip(token_readings(trace, 9), (9, 8), strict=True):
        part = trace.select(tokens=slice(row, row + 1))
        assert f"row {row}" in html
        assert f"entropy <b>{analysis.entropy(part).mean():.2f}</b>" in html
        assert f"margin <b>{analysis.margin(part).mean():.3f}</b>" in html
        for expert in range(8):
            share = (part.expert_ids == expert).mean()
            given = analysis.probabilities(part)[..., expert].mean()
            words = (
                f'aria-label="expert {expert}: {share:.0%} of the picks" title="mean router probability {given:.3f}"'
            )
            assert words in html


def test_the_smallest_margin_is_named_by_layer_and_projection() -> None:
    trace = fake_trace(5)
    trace.layer_indices = np.array([0, 5, 9, 12], np.int16)
    margins = analysis.margin(trace.select(tokens=slice(4, 5)))[0]
    layer, at = np.unravel_index(margins.argmin(), margins.shape)
    name = ("gate", "up", "down")[at]
    assert (
        f"smallest <b>{margins.min():.4f}</b> (layer {trace.layer_indices[layer]}, {name})"
        in token_readings(trace, 4)[0]
    )


def test_a_tie_is_not_said_to_be_nothing() -> None:
    trace = fake_trace(3)
    trace.router_logits[2, 1, 1] = 0
    assert "smallest <b>&lt;0.0001</b> (layer 1, up)" in token_readings(trace, 2)[0]


def test_before_the_first_token_there_is_nothing() -> None:
    assert "no row stands before the first token" in token_readings(fake_trace(5), 0)[1]


def test_the_candidate_that_was_chosen_is_marked_by_a_word() -> None:
    trace = with_candidates(fake_trace(12), TEXTS)
    read, predicted = token_readings(trace, 10)  # token 11 follows, token 10 is this one
    for html, text in ((read, "so"), (predicted, "onerror")):
        (line,) = [item for item in re.findall(r"<li><span.*?</li>", html) if ">chosen<" in item]
        assert text in line
    assert "50.0%" in read
    assert "25.0%" in read
    assert "part of a character" in read
    assert "before temperature and penalty" in read


def test_what_was_chosen_against_the_candidates_is_named() -> None:
    read, predicted = token_readings(with_candidates(fake_trace(12), {99: "x"}), 11)
    assert "chosen instead: <b>w11</b>" in predicted
    assert ">chosen<" not in predicted
    assert "what was drawn was not read" in read


def test_why_there_are_none_is_said() -> None:
    trace = with_candidates(fake_trace(12), TEXTS)
    assert "scored only where the model speaks" in token_readings(trace, 4)[0]
    assert "the trace does not hold them" in token_readings(fake_trace(12), 10)[0]


def test_texts_are_escaped() -> None:
    trace = with_candidates(fake_trace(["<script>"] * 12), TEXTS)
    html = "".join(token_readings(trace, 10))
    assert "<img" not in html
    assert "<script" not in html
    assert "&lt;img" in html


@pytest.mark.parametrize("row", [0, 4])
def test_rows_and_models_without_routing_say_so(row: int) -> None:
    trace = fake_trace(5)
    trace.router_logits[:], trace.expert_ids[:] = np.nan, -1
    assert "No expert was picked." in token_readings(trace, row)[0]
    assert "No router has run." in token_readings(trace, row)[0]
    assert "No expert was picked." in token_readings(fake_trace(5, projections=(), experts=1, top_k=0), row)[0]
    assert token_readings(fake_trace(5, experts=60, top_k=4), row)[0].count("<li aria-label=") <= 8
