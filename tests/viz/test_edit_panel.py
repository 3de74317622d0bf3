"""The Edit tab and the map's offer: rules in words, what a request may carry, what is drawn; the endpoint's edit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest

from molora.edits import RoutingEdit
from molora.effects import Effect
from molora.errors import MoloraError
from molora.sampling import Sampling
from tests.fakes import INFO, FakeEngine
from viz.again import intervene, prepare
from viz.api import ask_endpoint
from viz.chat import reply
from viz.panels.downloads import current_figure
from viz.panels.edit import EditPanel
from viz.panels.routing import RoutingPanel
from viz.session import Session


@pytest.fixture
def panel() -> RoutingPanel:
    with gr.Blocks(analytics_enabled=False):
        return RoutingPanel(range(4), 8, INFO.projections)


def answered() -> Session:
    session = Session()
    session.ask("Why is it?")
    for _ in reply(FakeEngine().engine, session, Sampling()):
        pass
    return session


def event(**told: Any) -> Any:
    return SimpleNamespace(**told)


def test_rules_are_told_in_words_and_undone(panel: RoutingPanel) -> None:
    session, edit = Session(tab="edit"), panel.edit
    said, rules, *_ = edit._add(session, "reroute", [1, 5], "0-1", "up")
    assert said == ""
    assert rules == "<ol><li>never picking experts 1, 5 in layers 0-1 of up_proj</li></ol>"
    edit._add(session, "drop", [3], "all", "all")
    assert len(session.edits.rules) == 2
    assert "never picking" in edit._undo(session)[1]
    assert "No rule yet" in edit._clear(session)[1]
    assert edit._undo(session)[0] == "There is no rule to undo."


@pytest.mark.parametrize(
    ("choices", "words", "edit"),
    [
        (
            ("uniform", [3], "0-1", "up"),
            "equal weights in layers 0-1 of up_proj",
            RoutingEdit.uniform([0, 1], ["up_proj"]),
        ),
        (("experts_off", [], "all", "all"), "without all experts", RoutingEdit.experts_off()),
        (("attention_off", [], "all", "all"), "without the attention LoRA", RoutingEdit.attention_off()),
    ],
)
def test_whole_parts_are_switched_off_and_gates_made_equal(
    panel: RoutingPanel, choices: Any, words: str, edit: RoutingEdit
) -> None:
    session = Session(tab="edit")
    assert panel.edit._add(session, *choices)[1] == f"<ol><li>{words}</li></ol>"
    assert session.edits.edit() == edit


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (("drop", [], "all", "all"), "at least one expert"),
        (("drop", [3], "nonsense", "all"), "Layers read like"),
        (("drop", [3], "9", "all"), "layers 0 to 3"),
        (("drop", [3], "all", "<b>"), "There is no projection &#x27;&lt;b&gt;&#x27;"),
        (("drop", {"a": 1}, "all", "all"), "at least one expert"),
        (("attention_off", [], "0-1", "all"), "switched off as a whole"),
        (("erase", [3], "all", "all"), "needs a kind"),
    ],
)
def test_what_makes_no_rule_is_said_and_nothing_is_lost(panel: RoutingPanel, choices: Any, message: str) -> None:
    session = Session(tab="edit")
    panel.edit._add(session, "drop", [3], "all", "all")
    said, *drawn = panel.edit._add(session, *choices)
    assert message in said
    assert drawn == [gr.skip()] * 5
    assert len(session.edits.rules) == 1


def test_a_clicked_cell_offers_to_switch_off_its_top_expert(panel: RoutingPanel) -> None:
    session = answered()
    assert session.trace is not None
    assert not offered(panel, session)["visible"]
    panel._picked(session, event(row=2, y="3", name="up"))
    expert = int(session.trace.expert_ids[2, 3, 1, 0])
    assert offered(panel, session)["value"] == f"Switch off expert {expert} in layer 3, up"
    panel._off(session)
    assert session.edits.edit() == RoutingEdit.drop([expert], [3], ["up_proj"])
    panel._picked(session, event(row=2))  # the strip names no router
    assert not offered(panel, session)["visible"]
    assert panel._off(session)[0].startswith("Click a cell of the map first")
    assert len(session.edits.rules) == 1


def offered(panel: RoutingPanel, session: Session) -> dict[str, Any]:
    update: dict[str, Any] = panel.map.draw(session, False)[-1]
    return update


def test_a_trace_out_of_a_file_offers_nothing(panel: RoutingPanel) -> None:
    session = answered()
    session.edits.place, session.chosen, session.opened = (3, "up_proj"), 2, "Imported"
    assert not offered(panel, session)["visible"]
    with pytest.raises(MoloraError, match="Click a cell"):
        panel.edit.switch_off(session)


def test_changes_and_sweep_are_drawn_with_their_marks(panel: RoutingPanel) -> None:
    session, fake = answered(), FakeEngine()
    session.tab = "edit"
    session.edits.add("drop", [3], None, None, panel.shape, 2)
    prepare(session, "again")
    for _ in intervene(fake.engine, session, Sampling()):
        pass
    session.edits.effects, session.edits.sweeping = [Effect(0, -0.25, np.zeros(2, np.float32))], True
    _, progress, cancel, changes, effects = panel.edit.draw(session)
    assert '<progress max="8" value="1">' in progress
    assert "1 of 8 experts" in progress
    assert cancel["visible"]
    assert "edited: without expert 3" in changes
    assert "depends" in changes
    assert "-0.250" in effects
    assert "Edited: without expert 3" in str(panel.draw(session)[-8:])
    assert "edited: without expert 3" in current_figure(session, panel.atlas).to_json()
    session.edits.change = None
    assert "edited: one expert off" in current_figure(session, panel.atlas).to_json()


def test_an_empty_tab_says_what_to_do(panel: RoutingPanel) -> None:
    assert "Answer again under a rule" in EditPanel.figure(Session()).to_json()
    assert "each expert off in turn" in panel.edit.draw(Session())[-1]


def test_the_endpoint_takes_an_edit_and_tells_it() -> None:
    fake = FakeEngine()
    ask = ask_endpoint(fake.coming, 16)
    rules = [{"kind": "drop", "experts": [3], "projections": ["up_proj"]}]
    assert list(ask("Why?", edit=rules))[-1]["edit"] == "without expert 3 of up_proj"
    assert fake.edits == [RoutingEdit.drop([3], projections=["up_proj"])]
    assert list(ask("Why?", edit=[]))[-1]["edit"] is None
    for wrong in ("drop", [{"kind": "erase"}], [{"kind": "drop", "experts": ["3"]}], [{"kind": "drop"}] * 99):
        with pytest.raises(gr.Error, match="edit"):
            list(ask("Why?", edit=wrong))
    assert len(fake.edits) == 2
