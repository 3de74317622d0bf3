"""What a report tells beside the answer: an edit's effects, the sweep, a second run; and it opens again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from molora.effects import Effect
from molora.sampling import Sampling
from tests.fakes import INFO, FakeEngine, fake_trace
from viz.again import intervene, prepare
from viz.beside import beside
from viz.chat import reply
from viz.report import report, trace_of
from viz.second import Other
from viz.session import Session
from viz.view import Shape


@pytest.fixture
def session() -> Session:
    """Answered once, and once more under an edit with other words."""
    session, fake = Session(), FakeEngine()
    session.ask("Why?")
    for _ in reply(fake.engine, session, Sampling()):
        pass
    session.edits.add("drop", [3], None, None, Shape((0, 1, 2, 3), INFO.projections, 8), 2)
    prepare(session, "again")
    fake.play(answer=[" <b>Else</b>", "."])
    for _ in intervene(fake.engine, session, Sampling()):
        pass
    return session


def test_nothing_is_beside_a_plain_answer() -> None:
    assert beside(Session()) == beside(Session(trace=fake_trace(9))) == []


def test_the_first_answer_stands_beside_the_edited_one_with_its_changes(session: Session) -> None:
    (part,) = beside(session)
    assert "<del> It depends</del>" in part.html
    assert "<ins> &lt;b&gt;Else&lt;/b&gt;</ins>" in part.html
    assert "without expert 3" in part.figure.to_json()
    assert session.edits.change is not None
    np.testing.assert_array_equal(np.asarray(part.figure.data[0].y), session.edits.change)


def test_the_sweep_and_the_second_run_are_told(session: Session) -> None:
    session.edits.effects = [Effect(0, -0.25, np.zeros(2, np.float32))]
    assert session.trace is not None
    ids = session.trace.token_ids.copy()
    ids[-1] += 1
    edited = replace(session.trace, token_ids=ids, meta={"edit": {"words": "<i>x"}})
    session.other = Other(edited, "<i>", "file <b>.npz")
    _, swept, second = beside(session)
    assert "-0.250" in swept.figure.to_json()
    assert second.title == "Second run: file &lt;b&gt;.npz <b>edited: &lt;i&gt;x</b>"
    assert "1 only in the first, 1 only in the second" in second.html
    assert "<ins>&lt;i</ins>" in second.html
    assert len(second.figure.data) == 6
    page = report(session.trace, session.kept(), beside=beside(session))
    for name in ("edit-changes", "edit-effects", "compare-map"):
        assert f'id="{name}"' in page
        assert f'"{name}":{{"data"' in page
    assert trace_of(page).token_text == session.trace.token_text


def test_a_long_comparison_is_told_for_the_window_and_one_of_other_models_not_at_all() -> None:
    session = Session(trace=fake_trace(1000), other=Other(fake_trace(1000, seed=1), "", "base"))
    (part,) = beside(session)
    assert np.asarray(part.figure.data[0].z).shape == (4, 240)
    session.other = Other(fake_trace(9, layers=2), "", "file")
    assert beside(session) == []
