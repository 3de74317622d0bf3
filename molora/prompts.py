"""Prompts in a file, one a line: `{"prompt": text}` or `{"messages": [...]}`, with an optional "id". Knows no model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from molora.chat import Message, check_messages
from molora.errors import MoloraError


@dataclass(frozen=True)
class Row:
    """One line of the prompts' file."""

    line: int
    """Counted from 1"""
    id: str
    messages: list[Message]
    error: str | None = None
    """Why it cannot be used"""


def read_rows(path: Path) -> Iterator[Row]:
    """Every line that is not blank; those that cannot be used carry their error.

    Raises MoloraError for a file that cannot be read.
    """
    seen: dict[str, int] = {}
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise MoloraError(
            f"{path} cannot be read ({error.strerror}). Name a .jsonl file with a prompt a line."
        ) from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, messages = f"line-{number}", []
        try:
            row = json.loads(line)
            name = _name(row, name)
            if name in seen:
                raise MoloraError(f"its id {name!r} is that of line {seen[name]}.")
            messages = _messages(row)
            json.dumps([name, messages], ensure_ascii=False).encode()  # half a character is no text
        except (ValueError, RecursionError, MoloraError) as error:
            said = str(error) if isinstance(error, MoloraError) else f"it is no JSON in UTF-8 ({error})."
            yield Row(number, name, [], said)
            continue
        seen[name] = number
        yield Row(number, name, messages)


def _name(row: Any, default: str) -> str:
    name = row.get("id", default) if isinstance(row, dict) else default
    if not isinstance(name, (str, int)):
        raise MoloraError("its 'id' is neither a text nor a whole number.")
    return str(name)


def _messages(row: Any) -> list[Message]:
    if not isinstance(row, dict) or ("prompt" in row) == ("messages" in row):
        raise MoloraError("it needs a 'prompt' or 'messages', one of the two.")
    messages = row["messages"] if "messages" in row else [{"role": "user", "content": row["prompt"]}]
    if not isinstance(messages, list):
        raise MoloraError("its 'messages' are no list.")
    if "prompt" in row and not isinstance(row["prompt"], str):
        raise MoloraError("its 'prompt' is no text.")
    check_messages(messages)
    return [{"role": message["role"], "content": message["content"]} for message in messages]
