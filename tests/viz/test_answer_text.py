"""A character of the answer and the token it came with, both ways."""

from __future__ import annotations

from tests.fakes import fake_trace
from viz.answer_text import answer_rows, answer_turn, row_at, span
from viz.session import Session, Turn

TEXTS = ["<|user|>", "Why", "?", " It", "", " 😀", " is", "."]
ANSWER_TEXT = "".join(TEXTS[3:])


def test_each_character_belongs_to_the_token_whose_span_holds_it() -> None:
    trace = fake_trace(TEXTS, template=1, prompt=2)
    assert answer_rows(trace).tolist() == [3, 4, 5, 6, 7]
    for row in answer_rows(trace).tolist():
        first, last = span(trace, row) or (0, 0)
        assert ANSWER_TEXT[first:last] == TEXTS[row]
        assert [row_at(trace, at) for at in range(first, last)] == [row] * (last - first)
    assert span(trace, 2) is None
    assert row_at(trace, len(ANSWER_TEXT)) is None  # the last sampled token is not read
    assert row_at(trace, -1) is None
    assert row_at(fake_trace(3, template=1, prompt=2), 0) is None


def test_only_the_last_answer_of_several_counts() -> None:
    trace = fake_trace(TEXTS, template=1, prompt=2)
    trace.phase[4] = 1
    assert answer_rows(trace).tolist() == [5, 6, 7]


def test_the_turn_is_the_one_that_says_it() -> None:
    trace = fake_trace(TEXTS, template=1, prompt=2)
    session = Session(trace=trace, turns=[Turn("user", "Why?"), Turn("assistant", f"{ANSWER_TEXT} more")])
    assert answer_turn(session) == 1
    session.turns.append(Turn("note", "Stopped."))
    assert answer_turn(session) == 1
    session.turns[1].content = "Else."
    assert answer_turn(session) is None
    session.turns.append(Turn("assistant", ANSWER_TEXT, opened=True))
    assert answer_turn(session) is None
    session.opened = "a file"
    assert answer_turn(session) == 3
    assert answer_turn(Session()) is None
