"""One expert: shares by layer and projection, tables whose rows can be chosen, chips with numbers."""

from __future__ import annotations

import numpy as np

from molora import analysis
from molora.trace import ANSWER, PROMPT
from tests.fakes import fake_trace
from viz.figures.expert import ROWS, expert_chips, expert_layers, expert_tokens


def test_cells_are_the_experts_share_in_percent_for_prompt_and_answer() -> None:
    trace = fake_trace(40, experts=5)
    drawn = expert_layers(trace, 3)
    for phase, part in zip((PROMPT, ANSWER), drawn.data, strict=True):
        share = analysis.load(trace.select(tokens=trace.phase == phase))[..., 3].T  # [P, L]
        np.testing.assert_allclose(part.z, 100 * share, rtol=1e-5)
        assert tuple(part.y) == ("gate", "up", "down")
    assert "(even: 20 %)" in drawn.layout.annotations[0].text


def test_a_side_without_tokens_and_a_model_without_routers_are_named_so() -> None:
    assert "answer: nothing yet" in [note.text for note in expert_layers(fake_trace(8), 3).layout.annotations]
    for trace in (fake_trace(0), fake_trace(9, projections=(), experts=1, top_k=0)):
        assert "Nothing was routed" in expert_layers(trace, 0).layout.annotations[0].text
    assert "Nothing was routed" in expert_layers(fake_trace(9), 8).layout.annotations[0].text


def test_an_edit_is_written_on_the_figure() -> None:
    trace = fake_trace(9)
    trace.meta["edit"] = {"words": "without expert 3"}
    assert "edited: without expert 3" in expert_layers(trace, 1).to_json()


def test_the_tables_name_tokens_shares_and_rows() -> None:
    trace = fake_trace(["<t>", " a", " b", " b"], layers=1, projections=("mlp",), experts=4, template=1, prompt=1)
    trace.token_ids = np.array([0, 1, 2, 2], np.int32)
    trace.expert_ids[:] = [0, 1]
    trace.expert_weights[:] = [0.75, 0.25]
    html = expert_tokens(trace, 1, selected=3)
    assert "Tokens of the prompt it took most" in html
    assert html.count(">100%<") == html.count(">0.25<") == 2
    assert '<button type="button" data-t="2" aria-label="Select token 2, b">2</button>' in html
    assert 'data-t="3" aria-label="Select token 3, b" aria-pressed=true' in html
    assert 'data-t="0"' not in html, "a token of the chat template is neither prompt nor answer"
    assert "Tokens of the prompt" not in expert_tokens(trace, 1, show="answer")
    assert expert_tokens(trace, 3).count("None.") == 2


def test_many_rows_are_bounded_and_texts_escaped() -> None:
    trace = fake_trace(['"><img src=x>'] * 30)
    trace.token_ids[:], trace.expert_ids[:] = 4, [2, 3]
    html = expert_tokens(trace, 2, show="answer")
    assert html.count("<button") == ROWS
    assert f"+ {22 - ROWS}" in html
    assert "<img" not in html


def test_chips_carry_the_number_and_the_choice() -> None:
    html = expert_chips(12, 4)
    assert html.count("<button") == 12
    assert html.count('aria-pressed="true"') == 1
    assert 'aria-label="Expert 4" aria-pressed="true"' in html
    assert 'aria-pressed="true"' not in expert_chips(12, None)
