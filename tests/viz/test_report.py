"""The report: everything in one file, nothing that runs or loads, and the trace out of it again."""

from __future__ import annotations

import base64
import re

import numpy as np
import pytest

from molora.errors import MoloraError
from molora.trace import RoutingTrace
from tests.fakes import fake_trace, with_candidates
from viz.report import report, trace_of

HOSTILE = ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", '" onload="alert(1)', "{{1}}"]
TURNS = [
    ("user", "What is <b>asthma</b>?"),
    ("assistant", "A disease.", "edited: without expert 3"),
    ("note", "Stopped."),
]


def without_scripts(page: str) -> str:
    return re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)


def made(trace: RoutingTrace) -> str:
    return report(trace, TURNS, selected=len(trace) - 1 if len(trace) else None)


def test_question_answer_summary_settings_and_versions_are_there() -> None:
    trace = fake_trace(12)
    trace.meta = {"model": "fake", "sampling": {"temperature": 0.7}, "edit": None, "versions": {"torch": "2.9"}}
    page = without_scripts(made(trace))
    for words in (
        "What is &lt;b&gt;asthma&lt;/b&gt;?",
        "A disease.",
        "edited: without expert 3",
        "Stopped.",
        "No medical advice",
        "entropy",
        "<th>sampling temperature</th><td>0.7</td>",
        "<th>versions torch</th><td>2.9</td>",
        "MoLoRA Lens 0.",
    ):
        assert words in page
    for name in ("map", "load", "token"):
        assert f'id="{name}"' in page
    assert "Edited routing" not in page


def test_it_loads_nothing_and_holds_plotly_once() -> None:
    page = made(fake_trace(12))
    assert "default-src 'none'" in page
    assert not re.search(r"<(?:script|img|link|iframe)[^>]*(?:src|href)=", page)
    assert page.count("plotly.js v") == 1


def test_hostile_text_stays_text() -> None:
    trace = fake_trace(HOSTILE * 3, template=1, prompt=3)
    trace.meta = {"model": HOSTILE[0], HOSTILE[0]: HOSTILE[1], "edit": HOSTILE[0]}
    page = report(trace, [("user", text, text) for text in HOSTILE], selected=2)
    assert "<script>alert" not in page
    assert "<img" not in page
    assert trace_of(page).token_text == trace.token_text


def test_the_token_and_the_run_can_be_read_in_words() -> None:
    trace = with_candidates(fake_trace(12), {7: HOSTILE[1], 11: " w11"})
    page = without_scripts(report(trace, TURNS, selected=11))
    for words in ("Read by", "Predicted by", "row 10", ">chosen<", "Mean entropy of the routers", "Most torn tokens"):
        assert words in page
    assert "<img" not in page
    assert trace_of(report(trace, TURNS)).candidates(11) == trace.candidates(11)
    assert "Read by" not in without_scripts(report(trace, TURNS))


def test_an_edit_is_marked_in_words() -> None:
    trace = fake_trace(12)
    trace.meta["edit"] = {"words": "without expert 3", "rules": [{"kind": "drop"}]}
    page = without_scripts(made(trace))
    assert '<p class="edited">Edited routing: without expert 3</p>' in page
    assert '<b class="mark">Edited: without expert 3</b>' in page


@pytest.mark.parametrize(
    "trace",
    [fake_trace(30), fake_trace(3, projections=(), experts=1, top_k=0), fake_trace(4).select(tokens=slice(0))],
)
def test_the_trace_comes_out_again(trace: RoutingTrace) -> None:
    again = trace_of(made(trace))
    assert (again.token_text, again.projections, again.meta) == (trace.token_text, trace.projections, trace.meta)
    np.testing.assert_array_equal(again.expert_ids, trace.expert_ids)
    np.testing.assert_array_equal(again.router_logits, trace.router_logits)


def block(content: str) -> str:
    return f'<script type="application/octet-stream;base64" id="molora-trace">{content}</script>'


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("<html></html>", r"^a\.html holds no trace\. Open a report"),
        (block("!!"), "holds no trace"),
        (block("") * 2, "holds no trace"),
        (block("abc"), r"^a\.html is damaged"),
        (block(base64.b64encode(b"hello").decode()), r"^a\.html is no trace"),
    ],
)
def test_a_page_without_its_trace_is_refused(page: str, words: str) -> None:
    with pytest.raises(MoloraError, match=words):
        trace_of(page, "a.html")


def test_settings_of_anyone_are_bounded() -> None:
    trace = fake_trace(3)
    trace.meta = {f"name {number}": "x" * 10_000 for number in range(1000)} | {"deep": {"a": {"b": [1]}}}
    assert len(without_scripts(made(trace))) < 100_000
