"""The Compare tab: what a second run may be, how it is made, cancelled and kept, what is said where there is none."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import gradio as gr
import pytest

from molora.edits import RoutingEdit
from molora.errors import MoloraError
from molora.sampling import Sampling
from tests.fakes import INFO, FakeEngine, fake_trace
from viz.chat import reply
from viz.panels.atlas import AtlasPanel
from viz.panels.compare import ComparePanel
from viz.panels.downloads import current_figure
from viz.second import Other
from viz.second_run import choices, plan, preset, run
from viz.session import Session
from viz.view import Shape, View

SHAPE = Shape(tuple(range(4)), INFO.projections, 8)


def panel(shape: Shape = SHAPE) -> ComparePanel:
    with gr.Blocks(analytics_enabled=False):
        return ComparePanel(shape)


def answered(fake: FakeEngine, question: str = "Why is it so?") -> Session:
    session = Session()
    session.ask(question)
    for _ in reply(fake.engine, session, Sampling()):
        pass
    return session


def compare(fake: FakeEngine, session: Session, what: str, *chosen: Any) -> list[str]:
    session.planned = plan(session, what, *(chosen or (0.7, 1, "")))
    return list(run(fake.engine, session))


@pytest.mark.parametrize(
    ("what", "edit"),
    [
        ("experts_off", RoutingEdit.experts_off()),
        ("attention_off", RoutingEdit.attention_off()),
        ("base", RoutingEdit.base()),
        ("uniform", RoutingEdit.uniform()),
        ("alone:7", RoutingEdit.alone(7)),
    ],
)
def test_a_preset_reads_the_same_conversation_under_its_edit(what: str, edit: RoutingEdit) -> None:
    fake = FakeEngine()
    session = answered(fake)
    first, turns = session.trace, list(session.turns)
    compare(fake, session, what)
    assert fake.asked[1] == fake.asked[0] == [{"role": "user", "content": "Why is it so?"}]
    assert fake.settings["edit"] == edit
    assert session.other is not None
    assert session.other.answer == " It depends."
    assert session.trace is first
    assert session.turns == turns
    assert session.planned is None
    assert fake.closed == 2


def test_every_choice_can_be_planned() -> None:
    session = answered(FakeEngine())
    words = [plan(session, value, 0.7, 1, "Really?").words for _, value in choices(8)]
    assert len(set(words)) == len(words) == 14


@pytest.mark.parametrize("what", ["", "drop", "alone:", "alone:x", "alone:-1", "__init__", "alone:²"])
def test_another_choice_is_refused(what: str) -> None:
    with pytest.raises(MoloraError, match="There is no such second run"):
        preset(what)


def test_seed_and_temperature_change_alone_and_keep_the_edit_of_the_first() -> None:
    edit = RoutingEdit.drop([3], layers=[0])
    told = {"max_new_tokens": 2, "temperature": 0.0, "top_p": 0.5, "repetition_penalty": 1.1, "seed": 0}
    fake = FakeEngine(meta={"sampling": told, "edit": edit.to_dict()})
    compare(fake, answered(fake), "again", 9.0, None, "")
    assert fake.settings == told | {"temperature": 2.0, "seed": 0, "edit": edit}


def test_another_question_stands_in_place_of_the_last() -> None:
    fake = FakeEngine()
    session = answered(fake)
    session.ask("And then?")
    for _ in reply(fake.engine, session, Sampling()):
        pass
    compare(fake, session, "otherwise", 0, 0, " What else? ")
    assert [message["content"] for message in fake.asked[-1]] == ["Why is it so?", " It depends.", "What else?"]
    with pytest.raises(MoloraError, match="Type a question first"):
        plan(session, "otherwise", 0, 0, None)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(MoloraError, match="Ask something first"):
        plan(Session(), "base", 0, 0, "")
    session = answered(FakeEngine())
    session.planned = plan(session, "base", 0, 0, "")
    with pytest.raises(MoloraError, match="still being written"):
        plan(session, "base", 0, 0, "")
    session.open(fake_trace(5), [], "Imported")
    with pytest.raises(MoloraError, match="came out of a file"):
        plan(session, "base", 0, 0, "")


@pytest.mark.parametrize("how", ["cancel", "ask", "clear", "open"])
def test_a_run_that_nobody_waits_for_stops(how: str) -> None:
    fake = FakeEngine()
    session = answered(fake)
    fake.play(answer=[" word"] * 50, seconds_a_token=0.4)
    session.planned = plan(session, "base", 0, 0, "")
    steps = run(fake.engine, session)
    assert next(steps) == "reading the conversation"
    assert next(steps) == "1 token of the answer"
    if how == "cancel":
        session.planned = None
    elif how == "ask":
        session.ask("Another?")
    elif how == "clear":
        session.clear()
    else:
        session.open(fake_trace(5), [], "Imported")
    assert list(steps) == []
    assert fake.closed == 1
    assert session.other is None


def test_what_the_model_refuses_is_told_and_leaves_the_session_ready() -> None:
    fake = FakeEngine()
    session = answered(fake)
    fake.error = MoloraError("X-LoRA does not allow that.")
    with pytest.raises(MoloraError, match="does not allow that"):
        compare(fake, session, "uniform")
    assert session.planned is None
    assert session.other is None


def test_a_second_run_goes_with_the_first() -> None:
    for change in (lambda s: s.ask("More?"), Session.clear, lambda s: s.open(fake_trace(5), [], "Imported")):
        session = answered(FakeEngine())
        session.other = Other(fake_trace(5), "", "file")
        change(session)
        assert session.other is None


def test_the_view_decides_what_is_compared() -> None:
    drawn, session = panel(), Session(trace=fake_trace(20), other=Other(fake_trace(20, seed=1), "<b>", "base <i>"))
    title, figure, text, start, cancel = drawn.draw(session)
    assert "<b>Second: base &lt;i&gt;</b>" in title
    assert "<b>20</b> tokens in both runs" in title
    assert "&lt;b&gt;" in text
    assert (start["visible"], cancel["visible"]) == (True, False)
    assert len(json.loads(figure)["data"]) == 6
    session.view = View(layers=(1,), projections=("up_proj",), show="answer")
    assert len(json.loads(drawn.draw(session)[1])["data"]) == 2
    assert "<b>12</b> tokens in both runs" in drawn.draw(session)[0]


def test_the_saved_figure_is_the_comparison_on_the_page() -> None:
    session = Session(trace=fake_trace(20), other=Other(fake_trace(20, seed=1), "", "base"), tab="compare")
    with gr.Blocks(analytics_enabled=False):
        saved = current_figure(session, AtlasPanel("There is none."))
    sent, whole = json.loads(panel().draw(session)[1]), json.loads(saved.to_json())
    for part in sent["data"][::2]:
        part["text"] *= 4  # the browser does so
    assert sent == whole
    session.other = None
    assert "press Run" in ComparePanel.figure(session).layout.annotations[0].text
    session.other = Other(fake_trace(20, layers=3), "", "file")
    assert "other layers" in ComparePanel.figure(session).layout.annotations[0].text


def test_a_long_comparison_shows_the_window_and_is_reckoned_once() -> None:
    trace = fake_trace(1000)
    session = Session(trace=trace, other=Other(fake_trace(1000, seed=1), "", "base"), tab="compare")
    figure = json.loads(panel().draw(session)[1])
    assert figure["layout"]["meta"]["from"] == 760
    assert len(figure["layout"]["meta"]["columns"]) == 240
    assert session.other is not None
    found = session.other.memo["found"]
    session.choose(100)
    figure = json.loads(panel().draw(session)[1])
    assert 100 in figure["layout"]["meta"]["columns"]
    assert session.other.memo["found"] is found
    session.view = View(show="answer")
    panel().draw(session)
    assert session.other.memo["found"] is not found


def test_an_edited_second_run_is_marked() -> None:
    trace = replace(fake_trace(9), meta={"edit": {"words": "without <all>"}})
    drawn = panel().draw(Session(trace=fake_trace(9), other=Other(trace, "", "base")))
    assert '<span class="mark">edited: without &lt;all&gt;</span>' in drawn[0]
    assert "second run edited: without &lt;all&gt;" in json.loads(drawn[1])["layout"]["annotations"][-1]["text"]


def test_traces_of_other_models_are_told_apart() -> None:
    drawn = panel().draw(Session(trace=fake_trace(9), other=Other(fake_trace(9, experts=5), "", "file run.npz")))
    assert "other experts: 8 beside 5" in drawn[1]


def test_while_it_runs_it_says_so_and_offers_to_cancel() -> None:
    session = answered(FakeEngine())
    session.planned = plan(session, "uniform", 0, 0, "")
    title, _, _, start, cancel = panel().draw(session, "7 tokens of the answer")
    assert title == "<b>Second run, uniform gates</b>: 7 tokens of the answer"
    assert (start["visible"], cancel["visible"]) == (False, True)


def test_a_model_without_routers_has_nothing_to_compare() -> None:
    empty = panel(Shape((), (), 1))
    assert empty.outputs == empty.draw(Session(trace=fake_trace(9))) == []
