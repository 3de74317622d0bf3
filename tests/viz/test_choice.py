"""After a choice only what it changes is sent again, and little of it."""

from __future__ import annotations

import json
from typing import Any, cast

import gradio as gr
import pytest

from molora.errors import MoloraError
from tests.fakes import fake_trace
from viz.panels.navigator import Navigator, moved_to, paged, sought, to_answer, word
from viz.panels.routing import RoutingPanel
from viz.session import Session
from viz.view import View


def column(layers: int = 30) -> RoutingPanel:
    with gr.Blocks(analytics_enabled=False):
        return RoutingPanel(range(layers), 8, fake_trace(1).projections, "")


class Event(gr.EventData):
    """What a browser sends."""

    def __init__(self, **data: Any) -> None:
        super().__init__(None, data)


def chosen(session: Session) -> dict[str, Any]:
    return cast(dict[str, Any], json.loads(Navigator.chosen(session, False)))


def test_a_choice_in_sight_sends_neither_strip_nor_map_nor_summary() -> None:
    panel, session = column(), Session(trace=fake_trace(4000, layers=30))
    whole = panel.draw(session)
    session.choose(3900)
    after = panel.draw(session, choice=True)
    strip, map_, title = after[:3]
    assert strip == map_ == gr.skip()
    assert "Token 3900" in title
    assert after.count(gr.skip()) > whole.count(gr.skip())
    assert len(json.dumps(after)) < 40_000
    session.choose(10)
    strip, map_, _ = panel.draw(session, choice=True)[:3]
    assert 'data-t="10"' in strip
    assert json.loads(map_)["data"][1]["x0"] == 0
    session.view = View(colour="entropy")
    assert panel.draw(session, choice=True)[1] != gr.skip()


def test_a_long_trace_is_as_small_on_the_wire_as_its_window() -> None:
    panel = column()
    session = Session(trace=fake_trace(4000, layers=30), running=True, length=4500)
    assert len(json.dumps(panel.draw(session))) < 250_000


def test_what_is_chosen_is_told_once_for_all() -> None:
    session = Session(trace=fake_trace([" a", " b", " cd", "e"], template=0, prompt=1))
    session.choose(2)
    session.edits.place = (1, "up_proj")
    told = chosen(session)
    assert (told["row"], told["layer"], told["name"], told["span"]) == (2, "1", "up", ["answer", 2, 5])
    assert (told["first"], told["last"], told["narrow"], told["marked"]) == (0, 4, False, True)
    assert chosen(Session())["row"] is None


def test_search_jump_and_moves_choose_and_move() -> None:
    session = Session(trace=fake_trace(1000, layers=1, prompt=497))
    assert sought(session, Event(text="w10", step=0)) == "1 of 11"
    assert session.chosen == 10
    assert sought(session, Event(text="W10", step=1)) == "2 of 11"
    assert session.window.holds(100)
    assert sought(session, Event(text="none", step=1)) == "not found"
    assert session.chosen == 100
    assert to_answer(session, Event()) == ""
    assert session.chosen == 500
    paged(session, Event(to="home"))
    assert session.window.first == 0
    moved_to(session, Event(row=700))
    assert session.window.holds(700)
    assert session.chosen == 500
    assert word(session, Event(at=1, part="answer"))
    assert session.chosen == 500
    assert not word(session, Event(at=10**9, part="answer"))
    assert word(session, Event(at=0, part="question"))
    assert session.chosen == 3


@pytest.mark.parametrize("data", [{}, {"text": 3, "step": 1}, {"text": "w1", "step": 7}, {"text": "w1"}])
def test_a_request_of_anyone_changes_nothing(data: dict[str, Any]) -> None:
    session = Session(trace=fake_trace(300, layers=1))
    assert sought(session, Event(**data)) == ""
    moved_to(session, Event(row=-4))
    moved_to(session, Event(row="x"))
    assert not word(session, Event(at="x", part="answer"))
    assert not word(session, Event(at=0, part="else"))
    assert (session.chosen, session.start) == (None, None)
    with pytest.raises(MoloraError, match="no such move"):
        paged(session, Event(to="away"))


def test_without_an_answer_in_sight_the_jump_says_why() -> None:
    with pytest.raises(MoloraError, match="no answer yet"):
        to_answer(Session(), Event())
    with pytest.raises(MoloraError, match="not shown now"):
        to_answer(Session(trace=fake_trace(20), view=View(show="prompt")), Event())


def test_what_was_overtaken_changes_nothing() -> None:
    panel, session = column(), Session(trace=fake_trace(300, layers=30))
    panel._picked(session, Event(row=5, when=20.5))
    assert panel._picked(session, Event(row=9, when=20.4)) == [gr.skip()] * len(panel.outputs)
    assert session.chosen == 5
    assert chosen(session)["when"] == 20.5
    panel._opener("load")(session, 30)
    assert panel._opener("token")(session, 29) == [gr.skip()] * len(panel.outputs)
    assert session.tab == "load"
    panel._chosen(session, 40, "all", "up", "both", "expert")
    assert set(map(str, panel._chosen(session, 39, "all", "down", "both", "expert"))) == {str(gr.skip())}
    assert session.view.projections == ("up_proj",)
    for when in (None, "x", True):  # of anyone: taken as the newest
        assert not session.overtaken("tab", when)


def test_a_column_of_the_second_run_alone_is_said() -> None:
    panel, session = column(), Session(trace=fake_trace(30, layers=30))
    said, *drawn = panel._matched(session, Event(row=-1))
    assert said.startswith("Only the second run has this token")
    assert drawn == [gr.skip()] * len(panel.outputs)
    assert panel._matched(session, Event(row=4, y="2", name="up"))[0] == ""
    assert (session.chosen, session.edits.place) == (4, (2, "up_proj"))
