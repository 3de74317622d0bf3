"""A character of question or answer and the token it came with, both ways."""

from __future__ import annotations

from tests.fakes import fake_trace
from viz.answer_text import answer_rows, linked_turns, question_rows, row_at, span
from viz.session import Session, Turn

TEXTS = ["<|user|>", "Why", "?", " It", "", " 😀", " is", "."]
ANSWER_TEXT = "".join(TEXTS[3:])


def test_each_character_belongs_to_the_token_whose_span_holds_it() -> None:
    trace = fake_trace(TEXTS, template=1, prompt=2)
    assert answer_rows(trace).tolist() == [3, 4, 5, 6, 7]
    for row in answer_rows(trace).tolist():
        part, first, last = span(trace, row) or ("", 0, 0)
        assert part == "answer"
        assert ANSWER_TEXT[first:last] == TEXTS[row]
        assert [row_at(trace, at) for at in range(first, last)] == [row] * (last - first)
    assert question_rows(trace).tolist() == [1, 2]
    assert span(trace, 2) == ("question", 3, 4)
    assert [row_at(trace, at, "question") for at in range(5)] == [1, 1, 1, 2, None]
    assert span(trace, 0) is None
    assert row_at(trace, len(ANSWER_TEXT)) is None  # the last sampled token is not read
    assert row_at(trace, -1) is None
    assert row_at(fake_trace(3, template=1, prompt=2), 0) is None


def test_only_the_last_answer_of_several_counts() -> None:
    trace = fake_trace(TEXTS, template=1, prompt=2)
    trace.phase[4] = 1
    assert answer_rows(trace).tolist() == [5, 6, 7]


def test_only_the_question_before_the_answer_counts() -> None:
    trace = fake_trace(TEXTS, template=1, prompt=2)
    trace.phase[7] = 1
    assert question_rows(trace).tolist() == [1, 2]
    trace.phase[3:] = 0
    assert question_rows(trace).tolist() == [1, 2]


def test_the_turns_are_those_that_say_it() -> None:
    trace = fake_trace(TEXTS, template=1, prompt=2)
    session = Session(trace=trace, turns=[Turn("user", "Why?"), Turn("assistant", f"{ANSWER_TEXT} more")])
    both = {1: "answer", 0: "question"}
    assert linked_turns(session) == both
    session.turns += [Turn("note", "Stopped."), Turn("user", "And then?")]
    assert linked_turns(session) == both
    session.turns[0].content = "Why not?"
    assert linked_turns(session) == {1: "answer"}
    session.turns[1].content = "Else."
    assert linked_turns(session) == {}
    session.turns.append(Turn("assistant", ANSWER_TEXT, opened=True))
    assert linked_turns(session) == {}
    session.opened = "a file"
    assert linked_turns(session) == {4: "answer"}
    assert linked_turns(Session()) == {}
    assert linked_turns(Session(trace=fake_trace(TEXTS[:3], template=1, prompt=2), turns=[Turn("user", "Why?")])) == {
        0: "question"
    }
