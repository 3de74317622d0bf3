"""The second of two runs side by side, planned and made. Holds no tensor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from molora.sampling import Sampling
from molora.trace import RoutingTrace

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
