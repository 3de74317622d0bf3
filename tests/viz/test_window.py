"""Which tokens of a long trace are shown, and how a window moves."""

from __future__ import annotations

import pytest

from molora.errors import MoloraError
from tests.fakes import fake_trace
from viz.session import Session
from viz.view import View
from viz.window import SIZE, Window, around, chosen_move, moved, window


def test_a_short_trace_is_shown_whole() -> None:
    assert window(0, SIZE, None) == Window(0, SIZE, 0, SIZE)
    assert window(5, 40, 17) == Window(5, 40, 5, 40)
    assert not window(0, SIZE, None).narrow
    assert window(0, SIZE + 1, None).narrow


def test_the_window_follows_the_end_in_steps_while_an_answer_grows() -> None:
    starts = [window(0, high, None, growing=True).first for high in range(SIZE, SIZE + 200)]
    assert sorted(set(starts)) == [0, 60, 120, 180, 240]
    for high in range(SIZE + 1, SIZE + 200):
        shown = window(0, high, None, growing=True)
        assert shown.last == high  # the newest token is always in it
    assert window(0, 1000, None) == Window(760, 1000, 0, 1000)


def test_a_moved_window_stays_within_what_there_is() -> None:
    assert window(10, 1000, 300)[:2] == (300, 300 + SIZE)
    assert window(10, 1000, 0)[:2] == (10, 10 + SIZE)
    assert window(10, 1000, 5000)[:2] == (1000 - SIZE, 1000)
    assert window(0, 1000, around(500)).holds(500)


def test_pages_reach_every_token_and_the_last_one_follows_again() -> None:
    shown, seen = window(0, 1000, moved(window(0, 1000, None), "home")), set[int]()
    for _ in range(9):
        seen |= set(range(shown.first, shown.last))
        shown = window(0, 1000, start := moved(shown, "on"))
    assert seen == set(range(1000))
    assert start is None
    assert moved(shown, "end") is None
    assert window(0, 1000, moved(shown, "back")).first < shown.first


def test_an_unknown_move_is_refused() -> None:
    assert chosen_move("home") == "home"
    for wrong in ("away", None, 3):
        with pytest.raises(MoloraError, match="no such move"):
            chosen_move(wrong)


def test_a_choice_out_of_sight_moves_the_window_and_one_in_sight_does_not() -> None:
    session = Session(trace=fake_trace(1000, layers=1))
    session.choose(900)
    assert (session.start, session.window.first) == (None, 760)
    session.choose(100)
    assert session.window.holds(100)
    session.open(fake_trace(1000, layers=1), [], "other")
    assert session.window.last == 1000


def test_the_window_is_within_the_tokens_that_are_shown() -> None:
    session = Session(trace=fake_trace(1000, layers=1, template=10, prompt=490), view=View(show="prompt"))
    assert session.window == Window(260, 500, 10, 500)
    session.start = 0
    assert session.window[:2] == (10, 250)
    session.view = View(show="answer")
    assert session.window[2:] == (500, 1000)
    assert Session().window == Window(0, 0, 0, 0)
