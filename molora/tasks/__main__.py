"""`python -m molora.tasks`: lists the tasks, shows one, checks their halves, or writes them out as JSON lines."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from molora.errors import MoloraError
from molora.tasks import TASKS, Built, Item, Split, build, known
from molora.tasks.overlap import concepts_across, overlaps

_SHOWN = 3
"""Overlaps of a task that are printed"""
_WIDTH = 300
"""Characters of an item among them"""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m molora.tasks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    lists = commands.add_parser("list", help="every task with its family, metric, sizes and source")
    shows = commands.add_parser("show", help="one task and its first items")
    shows.add_argument("name")
    shows.add_argument("--items", type=int, default=3, help="how many items of each half (default: 3)")
    builds = commands.add_parser("build", help="write tasks as JSON lines, NAME.train.jsonl and NAME.test.jsonl")
    builds.add_argument("names", nargs="*", help="tasks (default: all)")
    builds.add_argument("--out", type=Path, required=True, help="folder for the files")
    checks = commands.add_parser("check", help="what the two halves share: concepts, prompts, near-duplicates")
    checks.add_argument("names", nargs="*", help="tasks (default: all)")
    for command in (lists, shows, builds, checks):
        command.add_argument("--data", type=Path, help="folder with the data sets (see the README)")
    args = parser.parse_args(argv)
    try:
        if args.command == "list":
            return _list(build(TASKS, args.data))
        if args.command == "show":
            return _show(args.name, args.data, args.items)
        if args.command == "check":
            return _check(build(args.names or TASKS, args.data))
        return _write(build(args.names or TASKS, args.data), args.out)
    except MoloraError as error:
        print(f"molora.tasks: {error}", file=sys.stderr)
        return 1


def _list(built: Built) -> int:
    rows = [("task", "family", "metric", "written by", "train", "test", "source")]
    for name, task in TASKS.items():
        split = built.splits.get(name)
        sizes = (f"{len(split.train):,}", f"{len(split.test):,}") if split else ("missing", "missing")
        rows.append((name, task.family, task.metric, "people" if task.human else "a table", *sizes, task.source))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    people = sum(task.human for task in TASKS.values())
    print(f"\n{len(TASKS)} tasks, {people} of them on text that people wrote.")
    return _complain(built)


def _show(name: str, data: Path | None, count: int) -> int:
    (task,) = known([name])
    split = task.load(data)
    print(f"{name}: {task.family}, measured by {task.metric}; {task.source} ({task.licence})")
    for half, items in zip(Split._fields, split, strict=True):
        print(f"\n{half}: {len(items):,} items")
        for item in items[:count]:
            print(f"\n--- {item.concept}\n{item.prompt}\n=> {item.answer}")
    return 0


def _check(built: Built) -> int:
    """1 if any task has an overlap, or its sources lack."""
    shared = False
    for name, split in built.splits.items():
        found = overlaps(split)
        shared = shared or bool(found)
        print(f"{name}: {f'{len(found):,} of {len(split.train):,} training items' if found else 'no overlap'}")
        for kind, train, test, share in found[:_SHOWN]:
            print(f"  {kind}, {share:.0%}")
            print(*(f"    {_brief(item)}" for item in (split.train[train], split.test[test])), sep="\n")
    for source, splits in _by_source(built).items():
        if across := concepts_across(splits):
            shared = True
            print(f"{source}: in training of one task, in the test of another: {'; '.join(across[:_SHOWN])}")
    return max(_complain(built), int(shared))


def _by_source(built: Built) -> dict[str, list[Split]]:
    splits: dict[str, list[Split]] = {}
    for name, split in built.splits.items():
        for source in TASKS[name].sources:
            splits.setdefault(source.name, []).append(split)
    return splits


def _brief(item: Item) -> str:
    text = " ".join(f"{item.prompt} => {item.answer}".split())
    return text if len(text) <= _WIDTH else text[: _WIDTH - 3] + "..."


def _write(built: Built, out: Path) -> int:
    out.mkdir(parents=True, exist_ok=True)
    for name, split in built.splits.items():
        for half, items in zip(Split._fields, split, strict=True):
            lines = (json.dumps(item._asdict(), ensure_ascii=False) + "\n" for item in items)
            (out / f"{name}.{half}.jsonl").write_text("".join(lines), encoding="utf-8")
    print(f"Wrote {len(built.splits)} tasks to {out}.")
    return _complain(built)


def _complain(built: Built) -> int:
    """Each lack once, with the tasks that wait for it; 1 if anything lacks."""
    for lack in dict.fromkeys(built.missing.values()):
        names = ", ".join(name for name, said in built.missing.items() if said == lack)
        print(f"Missing for {names}: {lack}", file=sys.stderr)
    return 1 if built.missing else 0


if __name__ == "__main__":
    sys.exit(main())
