"""What one visitor has on the page: the conversation, its trace, and what they chose to see. Holds no tensor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from molora.trace import RoutingTrace
from viz.intervention import Intervention
from viz.language import Language
from viz.second import Other, Plan
from viz.view import Shape, View, shown_tokens
from viz.window import Window, around, window

Role = Literal["user", "assistant", "note"]
Tab = Literal["map", "token", "load", "edit", "compare", "atlas"]


@dataclass
class Turn:
    """One entry of the conversation. A note is the page's own word; the model never reads it."""

    role: Role
    content: str
    mark: str = ""
    """What must be seen beside the name: the edit that an answer was made under, or whose the words are."""
    opened: bool = False
    """Out of a trace that the visitor opened; the model never reads it."""
    aside: bool = False
    """The last question's answer once more, under an edit; the model never reads it."""


@dataclass
class Session:
    """Lives in a `gr.State`; every event of the visitor changes the same object, so a running answer sees it too."""

    turns: list[Turn] = field(default_factory=list)
    language: Language = "en"
    trace: RoutingTrace | None = None
    """Of the last question and its answer so far; arrays are views on the engine's buffers."""
    view: View = field(default_factory=View)
    edits: Intervention = field(default_factory=Intervention)
    opened: str = ""
    """Whose trace it is, in words, if it came out of a file."""
    shape: Shape | None = None
    """Of the trace that the controls were last made for; None for the model's own."""
    other: Other | None = None
    """A second run beside the trace; never shared, and gone with it."""
    planned: Plan | None = None
    """A second run that is waiting or under way; None stops it."""
    tab: Tab = "map"
    chosen: int | None = None
    """The row the visitor clicked; None follows the last token."""
    expert: int | None = None
    """The expert shown in depth"""
    start: int | None = None
    """First row of the window, where the visitor moved it; None follows the end."""
    drawn: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """What each part of the page was last drawn of: what is the same need not be sent again."""
    newest: dict[str, float] = field(default_factory=dict)
    """When the newest event of a kind happened, on the browser's clock"""
    length: int | None = None
    """Tokens the map's axis holds while an answer streams, None once it stands."""
    waiting: bool = False
    """A question has been sent and is not being answered yet."""
    running: bool = False
    stopping: bool = False

    @property
    def busy(self) -> bool:
        return self.waiting or self.running

    @property
    def selected(self) -> int | None:
        """The row to show in depth: the chosen one, else the last that the view shows."""
        if self.trace is None or not len(self.trace):
            return None
        if self.chosen is not None and self.chosen < len(self.trace):
            return self.chosen
        rows = shown_tokens(self.trace, self.view.show).nonzero()[0]
        return int(rows[-1]) if len(rows) else None

    @property
    def window(self) -> Window:
        """The rows that the map and the strip show, of those that the view shows."""
        if self.trace is None:
            return Window(0, 0, 0, 0)
        rows = shown_tokens(self.trace, self.view.show).nonzero()[0]
        low, high = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
        return window(low, high, self.start, growing=self.running)

    def overtaken(self, kind: str, when: object) -> bool:
        """Whether a later event of the kind arrived before this one, which is past then."""
        if isinstance(when, bool) or not isinstance(when, int | float):
            return False
        if when < self.newest.get(kind, when):
            return True
        self.newest[kind] = float(when)
        return False

    def choose(self, row: int) -> None:
        """Chooses a token, and moves the window where it does not show it."""
        self.chosen = row
        if not self.window.holds(row):
            self.start = around(row)

    def messages(self) -> list[dict[str, Any]]:
        """What the model reads: turns without notes. A question that got no answer at all is left out."""
        spoken = [turn for turn in self.turns if turn.role != "note" and not (turn.opened or turn.aside)]
        kept = [
            turn
            for turn, after in zip(spoken, [*spoken[1:], None], strict=True)
            if turn.role == "assistant" or after is None or after.role == "assistant"
        ]
        return [{"role": turn.role, "content": turn.content} for turn in kept]

    def question(self) -> list[dict[str, Any]]:
        """The same up to the last question, which the next answer is for."""
        messages = self.messages()
        while messages and messages[-1]["role"] != "user":
            messages.pop()
        return messages

    def ask(self, question: str) -> None:
        self.turns.append(Turn("user", question))
        self.waiting, self.stopping, self.edits.task = True, False, None
        self.other = self.planned = None

    def retract(self) -> str | None:
        """Takes the last question and all that followed it off the conversation and returns it; None without one."""
        for at in range(len(self.turns) - 1, -1, -1):
            if self.turns[at].role == "user" and not self.turns[at].opened:
                question = self.turns[at].content
                del self.turns[at:]
                return question
        return None

    def open(self, trace: RoutingTrace, turns: list[Turn], words: str) -> None:
        """Shows a trace out of a file, and what was said in it in place of an earlier file's; the conversation stays.

        words: whose trace it is.
        """
        self.turns = [turn for turn in self.turns if not turn.opened] + turns
        self.trace, self.opened, self.chosen, self.start, self.length = trace, words, None, None, None
        self.other = self.planned = None
        self.edits.forget()

    def kept(self) -> list[tuple[str, ...]]:
        """(role, text, mark) of what belongs to the trace: the conversation, or what the opened file says."""
        return [(turn.role, turn.content, turn.mark) for turn in self.turns if turn.opened == bool(self.opened)]

    def clear(self) -> None:
        """An empty conversation; what the visitor chose to see stays."""
        self.turns, self.trace, self.opened, self.chosen, self.start, self.length = [], None, "", None, None, None
        self.other = self.planned = None
        self.edits.forget()
        self.waiting = False
        self.stopping = self.running
