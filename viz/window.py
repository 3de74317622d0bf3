"""Which tokens of a long trace the map and the strip show. Pure: rows in, rows out.

A window is a run of `SIZE` rows within those there are to see. It follows the end until the reader moves it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from molora.errors import MoloraError
from viz.language import t

SIZE = 240
"""Tokens that the map and the strip show at once."""
_STEP = SIZE // 4
"""A window that follows a growing answer moves by so many tokens, and stands still in between."""

Move = Literal["home", "back", "on", "end"]


class Window(NamedTuple):
    """Rows of a trace; each `last` and `high` is one past the end."""

    first: int
    last: int
    low: int
    """First row there is to see"""
    high: int

    @property
    def narrow(self) -> bool:
        """Whether there is more to see than it shows."""
        return (self.first, self.last) != (self.low, self.high)

    def holds(self, row: int) -> bool:
        return self.first <= row < self.last


def window(low: int, high: int, start: int | None, *, growing: bool = False) -> Window:
    """Rows to show of those from `low` to before `high`.

    start: the first row, kept within what there is; None follows the end.
    growing: the end is still moving.
    """
    over = high - low - SIZE
    if over <= 0:
        return Window(low, high, low, high)
    if start is not None:
        first = min(max(start, low), high - SIZE)
    else:
        first = low + (-(-over // _STEP) * _STEP if growing else over)
    return Window(first, min(first + SIZE, high), low, high)


def around(row: int) -> int:
    """The start of a window with a row in its middle."""
    return row - SIZE // 2


def moved(shown: Window, to: Move) -> int | None:
    """Where a window starts next; None follows the end again. A page keeps a few tokens of the one before."""
    page = SIZE - SIZE // 12
    if to == "home":
        return shown.low
    if to == "back":
        return max(shown.first - page, shown.low)
    if to == "on" and shown.first + page < shown.high - SIZE:
        return shown.first + page
    return None


def chosen_move(text: object) -> Move:
    """What a request calls a move. Raises MoloraError for an unknown one."""
    for known in get_args(Move):
        if text == known:
            return known
    raise MoloraError(t("There is no such move of the window: {text!r}.", text=str(text)[:20]))
