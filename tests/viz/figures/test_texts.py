"""The small pieces of HTML: conversation, examples, legend, summary."""

from __future__ import annotations

import pytest

from tests.fakes import fake_trace
from viz.figures.conversation import conversation, examples
from viz.figures.legend import expert_legend
from viz.figures.summary import summary_line

HOSTILE = "<img src=//evil.example/x onerror=alert(1)></script>${alert(1)}{{alert(1)}}`"


@pytest.mark.parametrize("role", ["user", "assistant", "note"])
def test_whatever_is_said_is_escaped(role: str) -> None:
    html = conversation([(role, HOSTILE)])
    assert "<img" not in html
    assert "</script" not in html
    assert "&lt;img src=//evil.example/x onerror=alert(1)&gt;" in html
    assert "<img" not in examples([HOSTILE])


def test_the_answer_being_written_has_a_caret_and_a_waiting_question_a_word() -> None:
    assert "caret" in conversation([("user", "a"), ("assistant", "b")], writing=True)
    assert "caret" not in conversation([("user", "a"), ("assistant", "b")])
    assert "Waiting for the model" in conversation([("user", "a")], writing=True)


def test_the_legend_numbers_every_expert() -> None:
    html = expert_legend(12)
    for expert in range(12):
        assert f">{expert}</span>" in html


def test_the_summary_says_load_entropy_and_pair() -> None:
    trace = fake_trace(12)
    trace.expert_ids[:] = [3, 1]
    trace.router_logits[:] = 0
    line = summary_line(trace, show="answer")
    assert "<b>4</b> tokens" in line
    assert "expert <b>1</b> leads, 50% (uniform 12.5%)" in line
    assert "entropy <b>1.00</b>" in line
    assert "top pair <b>1 + 3</b>, 100%" in line


def test_the_summary_of_nothing_says_so() -> None:
    for trace in (fake_trace(0), fake_trace(5, projections=(), experts=1, top_k=0)):
        assert "No token routed" in summary_line(trace)
