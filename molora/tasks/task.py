"""What a task is: a source of prompts with answers, split so that no concept is in both halves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from molora.errors import MoloraError

Family = Literal["generation", "classification", "extraction"]


class Item(NamedTuple):
    prompt: str
    answer: str


class Split(NamedTuple):
    train: list[Item]
    test: list[Item]


@dataclass(frozen=True)
class Task:
    name: str
    family: Family
    source: str
    """Who publishes the files, and where."""
    licence: str
    files: tuple[str, ...]
    """Paths below the data folder."""
    build: Callable[[Path], Split]
    """Data folder -> items, in an order that depends on nothing but the files."""

    def load(self, data: Path) -> Split:
        """Raises MoloraError that lists what is missing from `data` and where to get it."""
        missing = [name for name in self.files if not (data / name).is_file()]
        if missing:
            raise MoloraError(
                f"Task {self.name} needs {', '.join(missing)} below {data}. Get it from {self.source}, or leave the "
                "task out."
            )
        return self.build(data)


def held_out(concept: str, percent: int = 5) -> bool:
    """Whether a concept (a disease, say) belongs to the test half; spelling in capitals makes no difference."""
    digest = hashlib.sha256(" ".join(concept.lower().split()).encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < percent
