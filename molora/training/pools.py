"""What a training reads: tasks by name and a user's own conversations, each with its share of the examples."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

from molora.chat import Message
from molora.errors import MoloraError
from molora.tasks import TASKS, build, known
from molora.training.conversations import BadRows, read_conversations
from molora.training.examples import as_messages

ALL = "all"
"""All tasks whose sources are there."""

OWN = "conversations"
"""Names the user's own conversations among the tasks."""


class Pool(NamedTuple):
    train: list[list[Message]]
    test: list[list[Message]]
    share: float
    source: str
    licence: str


def shares_of(text: str) -> dict[str, float]:
    """`"pubmedqa=0.6,lab_flag"` -> shares, the task's own where none is given.

    Raises MoloraError for an unknown task or a share that is no number above 0.
    """
    shares = {}
    for part in filter(None, text.split(",")):
        name, _, share = part.strip().partition("=")
        known([name])
        try:
            shares[name] = float(share or TASKS[name].share)
        except ValueError:
            raise MoloraError(f"The share of {name} is {share!r}; a number is expected.") from None
        if not shares[name] > 0:
            raise MoloraError(f"The share of {name} is {share!r}; a number above 0 is expected.")
    return shares


def pools_of(tasks: str, data: Path | None, conversations: Path | None, bad_rows: BadRows) -> dict[str, Pool]:
    """Reads everything. A task that was named must be there; of "all", what lacks its source is told and left out.

    Raises MoloraError if nothing is left to train on.
    """
    shares = shares_of(",".join(TASKS) if tasks == ALL else tasks)
    built = build(shares, data)
    for name, lack in built.missing.items():
        if tasks != ALL:
            raise MoloraError(f"Task {name} cannot be built: {lack}")
        print(f"Left out: {name}. {lack}", file=sys.stderr)
    pools = {}
    for name, split in built.splits.items():
        train, test = ([as_messages(item) for item in half] for half in split)
        pools[name] = Pool(train, test, shares[name], TASKS[name].source, TASKS[name].licence)
    if conversations is not None:
        read = read_conversations(conversations, bad_rows)
        for line in read.bad[:20]:
            print(f"Left out: {line}", file=sys.stderr)
        print(
            f"{conversations}: {len(read.train) + len(read.test):,} conversations, {len(read.bad):,} bad rows left out."
        )
        pools[OWN] = Pool(read.train, read.test, 1.0, conversations.name, "the user's own")
    if not pools:
        raise MoloraError("There is nothing to train on: name tasks and their --data, or give --conversations.")
    return pools
