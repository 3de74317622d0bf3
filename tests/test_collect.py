"""A corpus of traces: whole or not there, gone on with after a kill, bad rows named and counted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molora import collect as job
from molora.collect import collect, main
from molora.engine import Engine, Step
from molora.errors import MoloraError
from molora.prompts import read_rows
from molora.trace import ANSWER, RoutingTrace

PROMPTS = ["What is asthma?", "发烧怎么办？", "What is a fever?", "Why?", "What causes gout?"]


def write(path: Path, *rows: Any) -> Path:
    """Texts are prompts, bytes stand as they are."""
    lines = [row if isinstance(row, bytes) else json.dumps({"prompt": row} if isinstance(row, str) else row).encode()
             for row in rows]  # fmt: skip
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def index(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "index.jsonl").read_text().splitlines()]


class Counting:
    """An engine that counts what it is asked, and is killed when it has answered `until` batches."""

    def __init__(self, engine: Engine, until: int = 1000) -> None:
        self.engine, self.info, self.until = engine, engine.info, until
        self.asked: list[str] = []

    def answers(self, conversations: Sequence[Any], **settings: Any) -> list[Step]:
        if self.until == 0:
            raise KeyboardInterrupt
        self.until -= 1
        self.asked += [messages[-1]["content"] for messages in conversations]
        return self.engine.answers(conversations, **settings)


def test_every_prompt_gets_its_trace_and_its_line(engine: Engine, tmp_path: Path) -> None:
    rows = list(read_rows(write(tmp_path / "p.jsonl", *PROMPTS)))
    entries = collect(engine, rows, tmp_path / "out", 2, max_new_tokens=4)
    assert index(tmp_path / "out") == [asdict(entry) for entry in entries]
    for entry, prompt in zip(entries, PROMPTS, strict=True):
        assert entry.file is not None
        trace = RoutingTrace.load(tmp_path / "out" / entry.file)
        alone = engine.answer([{"role": "user", "content": prompt}], max_new_tokens=4)
        assert (entry.answer, entry.tokens, entry.finished) == (alone.text, len(alone.trace), alone.finished)
        np.testing.assert_array_equal(trace.expert_ids, alone.trace.expert_ids)
        assert trace.meta == alone.trace.meta | {"id": entry.id}
    assert not list((tmp_path / "out").glob("*.part"))


def test_numpy_alone_reads_the_corpus(engine: Engine, tmp_path: Path) -> None:
    collect(engine, list(read_rows(write(tmp_path / "p.jsonl", "Why?"))), tmp_path, max_new_tokens=2)
    (entry,) = index(tmp_path)
    with np.load(tmp_path / entry["file"], allow_pickle=False) as file:
        assert len(file["expert_ids"]) == entry["tokens"]


def test_no_new_tokens_reads_the_prompts_only(engine: Engine, tmp_path: Path) -> None:
    (entry, _) = collect(
        engine, list(read_rows(write(tmp_path / "p.jsonl", "Why?", "How?"))), tmp_path, max_new_tokens=0
    )
    assert (entry.answer, entry.finished) == ("", None)
    trace = RoutingTrace.load(tmp_path / (entry.file or ""))
    assert ANSWER not in trace.phase
    assert trace.meta["sampling"] is None


def test_after_a_kill_it_goes_on_where_it_stopped(engine: Engine, tmp_path: Path) -> None:
    rows, out = list(read_rows(write(tmp_path / "p.jsonl", *PROMPTS))), tmp_path / "out"
    whole = collect(engine, rows, tmp_path / "whole", 2, max_new_tokens=3)
    killed: Any = Counting(engine, until=1)
    with pytest.raises(KeyboardInterrupt):
        collect(killed, rows, out, 2, max_new_tokens=3)
    (out / "000003.npz.part").write_bytes(b"half")  # a kill while a trace or a line is being written
    with (out / "index.jsonl").open("a") as file:
        file.write('{"id": "line-3", "li')
    again: Any = Counting(engine)
    assert collect(again, rows, out, 2, max_new_tokens=3) == whole
    assert again.asked == PROMPTS[2:]
    assert index(out) == index(tmp_path / "whole")
    RoutingTrace.load(out / "000003.npz")


def test_what_changed_is_recorded_anew(engine: Engine, tmp_path: Path) -> None:
    collect(engine, list(read_rows(write(tmp_path / "p.jsonl", *PROMPTS))), tmp_path, max_new_tokens=2)
    (tmp_path / "000002.npz").unlink()
    changed = write(tmp_path / "p.jsonl", *PROMPTS[:3], "Another question?", PROMPTS[4])
    counting: Any = Counting(engine)
    collect(counting, list(read_rows(changed)), tmp_path, max_new_tokens=2)
    assert counting.asked == [PROMPTS[1], "Another question?"]
    collect(counting, list(read_rows(changed)), tmp_path, max_new_tokens=3)
    assert counting.asked[2:] == [*PROMPTS[:3], "Another question?", PROMPTS[4]]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (b"{", "it is no JSON in UTF-8"),
        (b'"\xff"', "it is no JSON in UTF-8"),
        ({"prompt": "a\ud800"}, "it is no JSON in UTF-8"),
        ([1], "needs a 'prompt' or 'messages'"),
        ({"prompt": "a", "messages": []}, "one of the two"),
        ({"prompt": 3}, "'prompt' is no text"),
        ({"messages": "a"}, "'messages' are no list"),
        ({"messages": [{"role": "me", "content": "a"}]}, "Message 0 needs a 'role'"),
        ({"prompt": "a", "id": [1]}, "'id' is neither"),
        ({"prompt": "a", "id": "first"}, "its id 'first' is that of line 1"),
        (" ", "The question is empty"),
        ("long " * 3000, "the model reads at most"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "must be the user's"),
    ],
)
def test_a_bad_row_is_named_and_the_rest_goes_on(engine: Engine, tmp_path: Path, row: Any, words: str) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": "Why?", "id": "first"}, b"", row, "How?")
    good, bad, after = collect(engine, list(read_rows(path)), tmp_path / "out", max_new_tokens=1)
    assert bad.line == 3
    assert words in (bad.error or "")
    assert bad.file is None
    assert [(entry.id, entry.error) for entry in (good, after)] == [("first", None), ("line-4", None)]
    assert [entry["error"] for entry in index(tmp_path / "out")] == [None, bad.error, None]


def test_the_command(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = write(tmp_path / "p.jsonl", "Why?", b"{", "How?"), tmp_path / "out"
    command = ["--model", str(checkpoint), "--prompts", str(path), "--out", str(out), "--max-new-tokens", "2"]
    assert main(command) == 1
    said = capsys.readouterr()
    assert f"{path}, line 2: it is no JSON" in said.err
    assert said.out == f"2 traces in {out}, 1 bad rows\n"
    shutil.rmtree(out)
    write(path, "Why?", "How?")
    assert main(command) == 0


def test_what_a_user_can_mend_is_said(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ["--model", str(checkpoint), "--out", str(tmp_path)]
    assert main([*model, "--prompts", str(tmp_path / "none.jsonl")]) == 2
    assert "none.jsonl cannot be read" in capsys.readouterr().err
    assert main([*model, "--prompts", str(write(tmp_path / "empty.jsonl", b""))]) == 2
    assert "holds no prompt" in capsys.readouterr().err
    assert main([*model, "--prompts", str(write(tmp_path / "p.jsonl", "Why?")), "--temperature", "-1"]) == 2
    assert "temperature is -1.0" in capsys.readouterr().err

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "collect", interrupted)
    assert main([*model, "--prompts", str(tmp_path / "p.jsonl")]) == 130
    assert "goes on where it stopped" in capsys.readouterr().err


def test_settings_out_of_range_are_no_bad_rows(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(MoloraError, match="temperature"):
        collect(engine, list(read_rows(write(tmp_path / "p.jsonl", *PROMPTS))), tmp_path, temperature=-1.0)


def test_help_tells_the_formats(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for word in ("--prompts", "--out", "--max-new-tokens", "--batch-size", '"messages"', "index.jsonl"):
        assert word in text
