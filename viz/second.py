"""The second of two runs side by side: planned, made, and held against the first. Holds no tensor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from molora.compare import Comparison, compared
from molora.sampling import Sampling
from molora.trace import RoutingTrace
from viz.figures.compare import comparison_line
from viz.view import View

if TYPE_CHECKING:
    from molora.edits import RoutingEdit


@dataclass(frozen=True)
class Plan:
    """A second run that is waiting for its turn or under way."""

    words: str
    messages: list[dict[str, Any]]
    sampling: Sampling
    edit: RoutingEdit | None


@dataclass(frozen=True)
class Other:
    """The second run as it stands."""

    trace: RoutingTrace
    answer: str
    words: str
    """What it is, for a title; not escaped"""
    memo: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """What was reckoned of it last, and of what"""


def comparison(trace: RoutingTrace, other: Other, view: View) -> tuple[Comparison, str]:
    """Both runs in the layers and projections of the view, and their line; reckoned once while they stay the same.

    Raises MoloraError as `molora.compare.compared` does.
    """
    of = (trace, view.layers, view.projections, view.show)
    if other.memo.get("of") != of:
        found = compared(view.cut(trace), view.cut(other.trace))
        other.memo.update(of=of, found=(found, comparison_line(found, show=view.show)))
    made: tuple[Comparison, str] = other.memo["found"]
    return made
