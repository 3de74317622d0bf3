"""A user's own conversations, in the JSON that MING is trained on: `[{"conversations": [{"from", "value"}, ...]}]`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from molora.chat import Message
from molora.errors import MoloraError
from molora.tasks.task import held_out

BadRows = Literal["skip", "refuse"]

_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


class Conversations(NamedTuple):
    train: list[list[Message]]
    test: list[list[Message]]
    """One in twenty, by its first question"""
    bad: list[str]
    """One line a row that cannot be used: where it stands, and why"""


def read_conversations(folder: Path, bad_rows: BadRows = "refuse") -> Conversations:
    """All conversations in the `.json` and `.jsonl` files of a folder, or in one file.

    Raises MoloraError for a folder without such files, a file that is no JSON, a folder without one usable row, and,
    with `bad_rows="refuse"`, for the first row that cannot be used.
    """
    files = [folder] if folder.is_file() else sorted(p for p in folder.glob("*") if p.suffix in (".json", ".jsonl"))
    if not files:
        raise MoloraError(f"There are no .json or .jsonl files in {folder}. Give the folder that holds conversations.")
    read = Conversations([], [], [])
    for path in files:
        for where, row in _rows(path):
            try:
                messages = _messages(row)
            except MoloraError as error:
                if bad_rows == "refuse":
                    raise MoloraError(
                        f"{where}: {error} Mend the row, or leave bad rows out (--bad-rows skip)."
                    ) from None
                read.bad.append(f"{where}: {error}")
                continue
            first = next(m["content"] for m in messages if m["role"] == "user")
            (read.test if held_out(first) else read.train).append(messages)
    if not read.train:
        raise MoloraError(f"No row in {folder} can be trained on. " + (f"The first: {read.bad[0]}" if read.bad else ""))
    if not read.test:  # too few for one in twenty: something has to be measured on
        read.test.append(read.train.pop() if len(read.train) > 1 else read.train[0])
    return read


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            rows = json.loads(text)
        else:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise MoloraError(f"{path} cannot be read as JSON ({error}). Correct the file.") from error
    if not isinstance(rows, list):
        raise MoloraError(f"{path} holds no list of conversations.")
    for number, row in enumerate(rows):
        yield f"{path.name}, row {number}", row


def _messages(row: Any) -> list[Message]:
    turns = row.get("conversations") if isinstance(row, dict) else None
    if not isinstance(turns, list) or not turns:
        raise MoloraError("it has no list 'conversations'.")
    messages: list[Message] = []
    for number, turn in enumerate(turns):
        who, said = (turn.get("from"), turn.get("value")) if isinstance(turn, dict) else (None, None)
        if who not in _ROLES:
            raise MoloraError(f"turn {number} is from {str(who)[:40]!r}; human, gpt or system is expected.")
        if not isinstance(said, str) or not said.strip():
            raise MoloraError(f"turn {number} has no text as its 'value'.")
        messages.append({"role": _ROLES[who], "content": said.strip()})
    spoken = [message["role"] for message in messages[messages[0]["role"] == "system" :]]
    if len(spoken) % 2 or spoken != ["user", "assistant"] * (len(spoken) // 2) or not spoken:
        raise MoloraError("its turns do not go human, gpt, human, gpt and end with an answer.")
    return messages
