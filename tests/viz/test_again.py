"""The last answer once more under an edit, and the sweep: what is measured, marked, kept and never lost."""

from __future__ import annotations

import pytest

from molora.edits import RoutingEdit
from molora.errors import MoloraError
from molora.sampling import Sampling
from molora.trace import ANSWER
from tests.fakes import INFO, FakeEngine, fake_trace
from viz.again import intervene, prepare
from viz.chat import reply
from viz.intervention import place_of, strongest
from viz.session import Session
from viz.view import Shape

SHAPE = Shape((0, 1, 2, 3), INFO.projections, 8)


def answered(fake: FakeEngine, question: str = "Why?") -> Session:
    session = Session()
    session.ask(question)
    for _ in reply(fake.engine, session, Sampling()):
        pass
    return session


def again(fake: FakeEngine, session: Session, *, from_chosen: bool = False) -> None:
    prepare(session, "again", from_chosen=from_chosen)
    for _ in intervene(fake.engine, session, Sampling()):
        pass


def drop(session: Session, expert: int) -> None:
    session.edits.add("drop", [expert], None, None, SHAPE, 2)


def changes(session: Session) -> list[float]:
    assert session.edits.change is not None
    change: list[float] = session.edits.change.tolist()
    return change


def test_the_new_answer_stands_marked_beside_the_old_one() -> None:
    fake = FakeEngine()
    session = answered(fake)
    first = session.trace
    drop(session, 3)
    fake.answer = [" No", "."]
    again(fake, session)
    assert [(turn.role, turn.content, turn.mark) for turn in session.turns] == [
        ("user", "Why?", ""),
        ("assistant", " It depends.", ""),
        ("assistant", " No.", "edited: without expert 3"),
    ]
    assert session.trace is not None
    assert session.trace.edit == "without expert 3"
    assert session.edits.original is first
    assert fake.edits == [None, None, RoutingEdit.drop([3]), RoutingEdit.drop([3])]
    assert changes(session) == pytest.approx([0, -1.3])
    assert not session.busy


def test_effects_are_always_held_against_the_first_answer() -> None:
    fake = FakeEngine()
    session = answered(fake)
    first = session.trace
    drop(session, 3)
    fake.answer = [" No"] * 9
    again(fake, session)
    session.edits.undo()
    drop(session, 0)
    again(fake, session)
    assert session.edits.original is first
    assert changes(session) == pytest.approx([0, -1])
    assert session.edits.words == "without expert 0"


def test_an_answer_goes_on_from_the_chosen_token() -> None:
    fake = FakeEngine()
    session = answered(fake)
    assert session.trace is not None
    drop(session, 3)
    session.chosen = int((session.trace.phase == ANSWER).nonzero()[0][1])
    again(fake, session, from_chosen=True)
    assert session.turns[-1].mark == "edited: without expert 3, its first 1 token given"
    assert session.turns[-1].content.startswith(" given")
    assert session.trace.meta["begun"] == 1


def test_the_conversation_goes_on_with_the_answer_that_was_not_edited() -> None:
    fake = FakeEngine()
    session = answered(fake)
    drop(session, 3)
    again(fake, session)
    session.ask("And then?")
    assert [message["content"] for message in session.messages()] == ["Why?", " It depends.", "And then?"]
    for _ in reply(fake.engine, session, Sampling()):
        pass
    assert fake.edits[-1] is None
    assert session.edits.original is None
    assert session.edits.change is None
    assert len(session.edits.rules) == 1


def test_a_sweep_tells_each_expert_and_leaves_the_answer_alone() -> None:
    fake = FakeEngine()
    session = answered(fake)
    trace, turns = session.trace, list(session.turns)
    prepare(session, "sweep")
    session.edits.where = ((1,), ("up_proj",))
    seen = [len(session.edits.effects) for _ in intervene(fake.engine, session, Sampling())]
    assert seen == [0, 1, 2, 3, 4, 5, 6, 7, 8, 8]
    assert fake.edits[2:] == [RoutingEdit.drop([expert], [1], ["up_proj"]) for expert in range(8)]
    assert [effect.mean for effect in session.edits.effects] == pytest.approx([-0.5 - e / 20 for e in range(8)])
    assert session.edits.swept() == "one expert off in layer 1 of up_proj"
    assert (session.trace, session.turns) == (trace, turns)
    assert not session.busy
    assert not session.edits.sweeping


def test_a_sweep_can_be_cancelled_and_keeps_what_it_found() -> None:
    fake = FakeEngine()
    session = answered(fake)
    prepare(session, "sweep")
    for _ in intervene(fake.engine, session, Sampling()):
        session.stopping = len(session.edits.effects) == 3
    assert len(session.edits.effects) == 4  # the one that was being made is kept
    assert len(fake.edits) == 1 + 1 + 4
    assert not session.busy
    assert not session.edits.sweeping


def test_clear_while_it_sweeps_leaves_nothing_behind() -> None:
    fake = FakeEngine()
    session = answered(fake)
    prepare(session, "sweep")
    for _ in intervene(fake.engine, session, Sampling()):
        if len(session.edits.effects) == 2:
            session.clear()
    assert session.edits.effects == []
    assert session.edits.original is None
    assert not session.busy
    assert not session.stopping


@pytest.mark.parametrize("task", ["again", "sweep"])
def test_what_the_engine_refuses_becomes_a_note_and_nothing_is_lost(task: str) -> None:
    fake = FakeEngine()
    session = answered(fake)
    trace = session.trace
    drop(session, 3)
    prepare(session, "again" if task == "again" else "sweep")
    fake.error = MoloraError("These routers do not allow that.")
    for _ in intervene(fake.engine, session, Sampling()):
        pass
    assert [turn.content for turn in session.turns] == ["Why?", " It depends.", "These routers do not allow that."]
    assert session.trace is trace
    assert len(session.edits.rules) == 1
    assert not session.busy


def test_what_cannot_be_asked_for_is_refused() -> None:
    fake, session = FakeEngine(), Session()
    with pytest.raises(MoloraError, match="Ask something first"):
        prepare(session, "sweep")
    session = answered(fake)
    with pytest.raises(MoloraError, match="Add a rule first"):
        prepare(session, "again")
    drop(session, 3)
    for row in (None, 0, 10**9):
        session.chosen = row
        with pytest.raises(MoloraError, match="Choose a token of the answer first"):
            prepare(session, "again", from_chosen=True)
    session.running = True
    with pytest.raises(MoloraError, match="still being written"):
        prepare(session, "again")
    session.running, session.opened = False, "Imported"
    with pytest.raises(MoloraError, match="an answer of this conversation"):
        prepare(session, "sweep")
    assert not session.busy
    assert session.edits.task is None


def test_a_question_asked_after_a_task_was_stopped_is_answered_plainly() -> None:
    fake = FakeEngine()
    session = answered(fake)
    drop(session, 3)
    prepare(session, "again")
    session.waiting = False  # stopped before its turn
    session.ask("And then?")
    assert list(intervene(fake.engine, session, Sampling())) == []
    for _ in reply(fake.engine, session, Sampling()):
        pass
    assert fake.edits == [None, None]


def test_rules_that_cannot_hold_change_nothing() -> None:
    edits = Session().edits
    edits.add("reroute", [1, 2], (0,), ("up_proj",), SHAPE, 2)
    for kind, experts, message in (
        ("drop", [], "at least one expert"),
        ("drop", None, "at least one expert"),
        ("erase", [1], "needs a kind"),
        ("drop", ["1"], "whole numbers"),
        ("drop", [8], "names expert 8"),
        ("force", [1], "both bars and forces expert 1"),
        ("force", [3, 4, 5], "forces 3 experts"),
    ):
        with pytest.raises(MoloraError, match=message):
            edits.add(kind, experts, None, None, SHAPE, 2)
    assert str(edits.edit()) == "never picking experts 1-2 in layer 0 of up_proj"
    edits.undo()
    with pytest.raises(MoloraError, match="no rule to undo"):
        edits.undo()
    for _ in range(24):
        edits.add("drop", [1], None, None, SHAPE, 2)
    with pytest.raises(MoloraError, match="24 rules already"):
        edits.add("drop", [1], None, None, SHAPE, 2)


def test_a_click_names_its_place_or_none() -> None:
    trace = fake_trace(9)
    assert place_of(trace, "2", "up") == (2, "up_proj")
    for layer, projection in (("9", "up"), ("2", "attention"), (2, "up"), ("2", None), ([], {})):
        assert place_of(trace, layer, projection) is None
    assert strongest(trace, 5, (2, "up_proj")) == trace.expert_ids[5, 2, 1, 0]
    assert strongest(trace, 5, (7, "up_proj")) is None
    trace.expert_ids[5] = -1
    assert strongest(trace, 5, (2, "up_proj")) is None
