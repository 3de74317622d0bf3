from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from molora.errors import MoloraError
from molora.training.conversations import read_conversations


def talk(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"conversations": [{"from": who, "value": said} for who, said in turns]}


GOOD = [talk(("human", f"Question {n}?"), ("gpt", " Rest. ")) for n in range(60)]


def test_roles_are_read_and_one_in_twenty_is_held_out(tmp_path: Path) -> None:
    long = talk(("system", "Be brief."), ("human", "A?"), ("gpt", "B."), ("human", "C?"), ("gpt", "D."))
    (tmp_path / "a.json").write_text(json.dumps([long, *GOOD[:30]]))
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, GOOD[30:])) + "\n\n")
    (tmp_path / "notes.txt").write_text("not read")
    read = read_conversations(tmp_path)
    assert len(read.train) + len(read.test) == 61
    assert 1 <= len(read.test) <= 8
    assert not read.bad
    several = next(messages for messages in (*read.train, *read.test) if len(messages) == 5)
    assert [m["role"] for m in several] == ["system", "user", "assistant", "user", "assistant"]
    assert read.train[-1][-1]["content"] == "Rest."
    assert read_conversations(tmp_path / "a.json").train, "a file will do"


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"messages": []}, "it has no list 'conversations'"),
        ("text", "it has no list 'conversations'"),
        (talk(("human", "A?"), ("bot", "B.")), "turn 1 is from 'bot'"),
        (talk(("human", "A?"), ("gpt", "  ")), "turn 1 has no text"),
        (talk(("human", "A?"), ("gpt", None)), "turn 1 has no text"),
        (talk(("human", "A?")), "its turns do not go"),
        (talk(("gpt", "B."), ("human", "A?")), "its turns do not go"),
        (talk(("system", "Be brief.")), "its turns do not go"),
        ({"conversations": ["A?"]}, "turn 0 is from 'None'"),
    ],
)
def test_a_bad_row_is_named_and_skipped_or_refused(tmp_path: Path, row: Any, why: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps([GOOD[0], row, GOOD[1]]))
    with pytest.raises(MoloraError, match=rf"a\.json, row 1: {why}.*--bad-rows skip"):
        read_conversations(tmp_path)
    read = read_conversations(tmp_path, "skip")
    assert len(read.bad) == 1
    assert read.bad[0].startswith(f"a.json, row 1: {why}")
    assert len(read.train) + len(read.test) == 2


@pytest.mark.parametrize(("text", "why"), [("[", "cannot be read as JSON"), ('{"a": 1}', "holds no list")])
def test_a_file_that_is_no_list_is_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(MoloraError, match=why):
        read_conversations(tmp_path, "skip")


def test_an_empty_folder_and_one_without_a_usable_row(tmp_path: Path) -> None:
    with pytest.raises(MoloraError, match=r"no \.json or \.jsonl files"):
        read_conversations(tmp_path)
    (tmp_path / "a.json").write_text('[{"conversations": []}]')
    with pytest.raises(MoloraError, match=r"No row .* can be trained on\. The first: a\.json, row 0"):
        read_conversations(tmp_path, "skip")
