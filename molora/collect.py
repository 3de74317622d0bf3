"""`python -m molora.collect`: records what the routers do with every prompt of a file, a trace a prompt.

A trace is whole or not there. Interrupted, the same command goes on after the last batch; rows that cannot be used are
named and counted, and the rest goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from molora.base import QUANTIZE
from molora.engine import Engine, Step
from molora.errors import MoloraError
from molora.loading import load
from molora.prompts import Row, read_rows
from molora.sampling import Sampling

INDEX = "index.jsonl"


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m molora.collect",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        epilog='A line of the file is {"prompt": "..."} or {"messages": [{"role": "user", "content": "..."}]}, with an '
        '"id" of your own if you like. DIR gets a .npz a prompt and index.jsonl. Exit code 1: some row was bad.',
    )
    parser.add_argument("--model", default="demo", help="hub id or folder of a checkpoint, or 'demo'")
    parser.add_argument("--base", help="hub id or folder of the base, if not the one that the checkpoint names")
    parser.add_argument("--quantize", choices=QUANTIZE, default="auto", help="of the base")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--prompts", type=Path, required=True, metavar="FILE", help=".jsonl, a prompt a line")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for traces and index")
    parser.add_argument("--max-new-tokens", type=_count, default=128, metavar="N", help="0 reads the prompts only")
    parser.add_argument("--batch-size", type=_positive, default=8, metavar="N", help="prompts that are read at once")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    parser.add_argument("--repetition-penalty", type=float, default=1.0, help="1 is none")
    parser.add_argument("--seed", type=int, default=0, help="of drawing with a temperature, for each prompt anew")
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Entry:
    """One line of the index."""

    id: str
    line: int
    file: str | None
    """The trace, beside the index; None for a bad row"""
    tokens: int
    """Rows of the trace"""
    answer: str
    finished: str | None
    """"stop" or "length"; None where nothing was answered"""
    error: str | None
    key: str
    """Checksum of the messages, the model and the settings: what is recorded already is known by it"""


def collect(engine: Engine, rows: Sequence[Row], out: Path, batch_size: int = 8, **settings: Any) -> list[Entry]:
    """Records `rows` into `out` and returns the index, in their order; `settings` are those of `Engine.stream`.

    `max_new_tokens=0` reads without answering. Raises MoloraError for settings out of range.
    """
    Sampling(**settings | {"max_new_tokens": max(settings.get("max_new_tokens", 1), 1)})  # not every row's fault
    out.mkdir(parents=True, exist_ok=True)
    done = _recorded(out)
    entries: dict[int, Entry] = {}
    todo: list[Row] = []
    for row in rows:
        earlier = done.get(row.line)
        if row.error is not None:
            entries[row.line] = _bad(row, row.error)
        elif earlier and (earlier.id, earlier.key) == (row.id, _key(engine, row, settings)):
            entries[row.line] = earlier
        else:
            todo.append(row)
    _write_index(out, entries)  # what is half-written, or of another model or file, goes
    waiting = iter(todo)
    with tqdm(total=len(rows), initial=len(rows) - len(todo), unit="prompt", desc="recording") as progress:
        while batch := list(islice(waiting, batch_size)):
            steps = _steps(engine, batch, settings)
            with (out / INDEX).open("a", encoding="utf-8") as index:
                for row, step in zip(batch, steps, strict=True):
                    entries[row.line] = entry = _record(row, step, out, _key(engine, row, settings))
                    index.write(_line(entry))
            progress.update(len(batch))
    _write_index(out, entries)
    return [entries[row.line] for row in rows]


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    try:
        rows = list(read_rows(args.prompts))
        if not rows:
            raise MoloraError(f"{args.prompts} holds no prompt. Give it a line for each.")
        engine = load(args.model, base=args.base, quantize=args.quantize, device=args.device)
        settings = {
            name: getattr(args, name) for name in ("max_new_tokens", "temperature", "repetition_penalty", "seed")
        }
        entries = collect(engine, rows, args.out, args.batch_size, **settings)
    except (MoloraError, OSError) as error:
        print(f"molora.collect: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("molora.collect: interrupted; the same command goes on where it stopped.", file=sys.stderr)
        return 130
    bad = [entry for entry in entries if entry.error]
    for entry in bad:
        print(f"{args.prompts}, line {entry.line}: {entry.error}", file=sys.stderr)
    print(f"{len(entries) - len(bad)} traces in {args.out}, {len(bad)} bad rows")
    return 1 if bad else 0


def _steps(engine: Engine, batch: Sequence[Row], settings: dict[str, Any]) -> list[Step | MoloraError]:
    """What came of each row. A prompt that the model refuses does not take the others with it."""
    reads_only = settings.get("max_new_tokens") == 0
    asked = settings | {"max_new_tokens": 1} if reads_only else settings
    steps: list[Step | MoloraError]
    try:
        steps = [*engine.answers([row.messages for row in batch], **asked)]
    except MoloraError as error:
        if len(batch) == 1:
            return [MoloraError(str(error).removeprefix("Conversation 0: "))]
        half = len(batch) // 2
        return _steps(engine, batch[:half], settings) + _steps(engine, batch[half:], settings)
    return [_unanswered(step) if reads_only and isinstance(step, Step) else step for step in steps]


def _unanswered(step: Step) -> Step:
    """The token that was drawn has not been read and leaves no row: only the words about it go."""
    meta = step.trace.meta | {"sampling": None, "seed": None}
    return Step("", replace(step.trace, meta=meta), 0, None)


def _record(row: Row, step: Step | MoloraError, out: Path, key: str) -> Entry:
    if isinstance(step, MoloraError):
        return _bad(row, str(step))
    file = f"{row.line:06d}.npz"
    trace = replace(step.trace, meta=step.trace.meta | {"id": row.id})
    unfinished = out / f"{file}.part"
    trace.save(unfinished)
    unfinished.replace(out / file)
    return Entry(row.id, row.line, file, len(trace), step.text, step.finished, None, key)


def _bad(row: Row, error: str) -> Entry:
    return Entry(row.id, row.line, None, 0, "", None, error, "")


def _recorded(out: Path) -> dict[int, Entry]:
    """Line -> what an earlier run recorded, as far as its trace is there. A line cut short by a kill is passed over."""
    found = {}
    lines = (out / INDEX).read_text(encoding="utf-8").splitlines() if (out / INDEX).exists() else []
    for line in lines:
        try:
            entry = Entry(**json.loads(line))
            whole = entry.file is not None and (out / entry.file).is_file()
        except (ValueError, TypeError):
            continue
        if whole:
            found[entry.line] = entry
    return found


def _key(engine: Engine, row: Row, settings: dict[str, Any]) -> str:
    info = engine.info
    what = [row.messages, info.adapter_sha256, info.base, info.quantization, info.dtype, sorted(settings.items())]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


def _write_index(out: Path, entries: dict[int, Entry]) -> None:
    """Whole or not at all, in the order of the file."""
    unfinished = out / f"{INDEX}.part"
    unfinished.write_text("".join(_line(entries[number]) for number in sorted(entries)), encoding="utf-8")
    unfinished.replace(out / INDEX)


def _line(entry: Entry) -> str:
    return json.dumps(asdict(entry)) + "\n"


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
