"""An answer in the making: what the page is told, when it stops, and what is never lost."""

from __future__ import annotations

import pytest

from molora.errors import MoloraError
from molora.sampling import Sampling
from molora.trace import ANSWER
from tests.fakes import FakeEngine
from viz import chat
from viz.chat import bounded, check_prompt, reply
from viz.session import Session, Turn


@pytest.fixture
def unthrottled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "UPDATE_SECONDS", 0.0)


def asked(question: str = "Why?") -> Session:
    session = Session()
    session.ask(question)
    return session


def said(session: Session) -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in session.turns]


@pytest.mark.usefixtures("unthrottled")
def test_text_and_trace_grow_together() -> None:
    fake, session = FakeEngine(), asked()
    lengths: list[int] = []
    for _ in reply(fake.engine, session, Sampling()):
        assert session.running == (len(lengths) < 4)
        lengths.append(0 if session.trace is None else len(session.trace))
    assert lengths == [0, 3, 4, 5, 5]
    assert said(session) == [("user", "Why?"), ("assistant", " It depends.")]
    assert session.trace is not None
    assert (session.trace.phase == ANSWER).sum() == 2
    assert not session.busy
    assert fake.closed == 1


@pytest.mark.usefixtures("unthrottled")
def test_the_axis_keeps_one_length_while_the_answer_grows() -> None:
    session = asked()
    lengths = {session.length for _ in reply(FakeEngine().engine, session, Sampling(max_new_tokens=50))}
    assert lengths == {None, 3 + 50}


def test_redraws_are_throttled() -> None:
    fake, session = FakeEngine(answer=[" a"] * 300), asked()
    redraws = sum(1 for _ in reply(fake.engine, session, Sampling(max_new_tokens=300)))
    assert redraws < 30
    assert said(session)[-1][1] == " a" * 300


def test_settings_reach_the_engine() -> None:
    fake = FakeEngine()
    sampling = Sampling(max_new_tokens=2, temperature=0.5, top_p=0.9, repetition_penalty=1.2, seed=7)
    session = asked()
    list(reply(fake.engine, session, sampling))
    assert fake.settings == {
        "max_new_tokens": 2,
        "temperature": 0.5,
        "top_p": 0.9,
        "repetition_penalty": 1.2,
        "seed": 7,
    }
    assert said(session)[-1] == ("note", "Cut off after 2 new tokens, the limit in the settings.")


def test_an_answer_without_a_word_is_told() -> None:
    session = asked()
    list(reply(FakeEngine(answer=[""]).engine, session, Sampling()))
    assert said(session)[-1] == ("note", "The model ended its turn without a word.")


@pytest.mark.usefixtures("unthrottled")
def test_stop_ends_it_and_keeps_what_was_said() -> None:
    fake, session = FakeEngine(), asked()
    for _ in reply(fake.engine, session, Sampling()):
        if session.trace is not None:
            session.stopping = session.running
    assert said(session) == [("user", "Why?"), ("assistant", " It depends"), ("note", "Stopped.")]
    assert fake.closed == 1
    assert not session.stopping


@pytest.mark.usefixtures("unthrottled")
def test_a_visitor_who_leaves_stops_the_model() -> None:
    fake, session = FakeEngine(), asked()
    running = reply(fake.engine, session, Sampling())
    next(running)
    next(running)
    running.close()  # what Gradio does when the browser goes away
    assert fake.closed == 1
    assert not session.busy


def test_time_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "TIME_LIMIT_SECONDS", -1.0)
    session = asked()
    list(reply(FakeEngine().engine, session, Sampling()))
    assert said(session)[-1][1].startswith("Stopped after")


def test_what_the_engine_refuses_becomes_a_note_and_the_question_stays() -> None:
    session = asked("x")
    list(reply(FakeEngine(error=MoloraError("Too long; clear the conversation.")).engine, session, Sampling()))
    assert said(session) == [("user", "x"), ("note", "Too long; clear the conversation.")]


def test_a_fault_of_the_program_leaves_the_session_usable() -> None:
    session = asked()
    with pytest.raises(RuntimeError):
        list(reply(FakeEngine(error=RuntimeError("bug")).engine, session, Sampling()))
    assert not session.busy
    assert said(session) == [("user", "Why?")]


@pytest.mark.usefixtures("unthrottled")
def test_clear_while_it_answers_leaves_nothing_behind() -> None:
    session = asked()
    for _ in reply(FakeEngine().engine, session, Sampling()):
        session.clear()
    assert session.turns == []
    assert session.trace is None
    assert not session.busy


def test_nothing_runs_without_a_question() -> None:
    fake = FakeEngine()
    assert list(reply(fake.engine, Session(), Sampling())) == []
    assert fake.asked == []


def test_the_model_reads_earlier_turns_but_no_notes_and_no_unanswered_question() -> None:
    session = Session(
        turns=[
            Turn("user", "one"),
            Turn("assistant", "1"),
            Turn("note", "Stopped."),
            Turn("user", "lost"),
            Turn("note", "Too long."),
        ]
    )
    session.ask("two")
    assert session.messages() == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "two"},
    ]


def test_retract_takes_the_last_question_and_all_after_it() -> None:
    session = asked("again")
    list(reply(FakeEngine().engine, session, Sampling(max_new_tokens=1)))
    assert session.retract() == "again"
    assert session.turns == []
    assert session.retract() is None


@pytest.mark.parametrize("text", ["", " \n\t "])
def test_an_empty_question_is_refused(text: str) -> None:
    with pytest.raises(MoloraError, match=r"Type a question first\."):
        check_prompt(text)


def test_an_enormous_question_is_refused_with_both_numbers() -> None:
    with pytest.raises(MoloraError, match=r"has 8,001 characters; this page takes up to 8,000"):
        check_prompt("x" * 8001)


def test_numbers_of_a_request_are_kept_within_bounds() -> None:
    assert bounded(64, 10**9, 99, -1, 50, None) == Sampling(64, 2.0, 0.05, 2.0, 0)
    assert bounded(64, -5, -1, 2, 0, -3) == Sampling(1, 0.0, 1.0, 1.0, 0)
