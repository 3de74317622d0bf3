"""`python -m molora.bench`: speed, memory and what they are measured against, as ratios from one run."""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from molora.base import QUANTIZE
from molora.bench.report import lengths_table, section, table
from molora.bench.run import TooLargeError, late_tokens, run
from molora.demo import DEMO
from molora.errors import MoloraError
from molora.report import replaced
from molora.shapes import SHAPES

_REPORTS = "bench*.json"


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m molora.bench", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--model", default=DEMO, help="hub id, folder, or 'demo'")
    what.add_argument(
        "--shape",
        choices=(DEMO, *SHAPES),
        help="'demo', or a released size with random weights made on the device; nothing is downloaded",
    )
    what.add_argument(
        "--all-shapes",
        nargs="*",
        choices=SHAPES,
        metavar="SHAPE",
        help="several sizes, one after the other; without names 1.8B, 7B and 14B",
    )
    parser.add_argument("--base", help="hub id or folder of the base; default: the one the checkpoint names")
    parser.add_argument("--quantize", choices=QUANTIZE, default="auto", help="of the base; auto: 4bit on CUDA")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and jobs: under 50 s for the demo on a CPU")
    parser.add_argument("--length", action="store_true", help="only what a token costs after 10 to 3,950 others")
    parser.add_argument("--json", type=Path, help="file for the report")
    parser.add_argument(
        "--readme", type=Path, help="Markdown file whose part on speed is made anew from all bench*.json beside --json"
    )
    args = parser.parse_args(argv)
    if args.readme and not (args.json and args.json.match(_REPORTS)):
        parser.error(f"--readme is made from all {_REPORTS} in a folder; give --json such a file")
    if args.length and (args.json or args.readme or args.all_shapes is not None):
        parser.error("--length prints a table, and goes with neither --json, --readme nor --all-shapes")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = arguments(argv)
    try:
        if args.length:
            late = late_tokens(args.shape or args.model, args.base, args.quantize, args.device)
            print(lengths_table([cost._asdict() for cost in late]), flush=True)
            return 0
        _make_room(args.json, args.readme)
        report = _all(args) if args.all_shapes is not None else _one(args.shape or args.model, args)
        if args.json:
            args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        if args.readme:
            write_readme(args.readme, args.json.parent)
    except (MoloraError, OSError) as error:
        print(f"molora.bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("molora.bench: interrupted; nothing of this run is kept but sizes that are done.", file=sys.stderr)
        return 130
    return 0


def write_readme(readme: Path, folder: Path) -> None:
    """Makes the part on speed anew from every `bench*.json` in the folder. Raises MoloraError without its marks, and
    for a file that is no report."""
    reports = [_read(path) for path in sorted(folder.glob(_REPORTS))]
    readme.write_text(replaced(readme.read_text(encoding="utf-8"), "speed", section(reports)), encoding="utf-8")


def _make_room(report: Path | None, readme: Path | None) -> None:
    """For what is written at the end, or raises OSError or MoloraError before anything measured is lost."""
    if report:
        report.parent.mkdir(parents=True, exist_ok=True)
        if report.is_dir() or not os.access(report if report.exists() else report.parent, os.W_OK):
            raise MoloraError(f"{report} cannot be written. Name another file.")
    if report and readme:
        replaced(readme.read_text(encoding="utf-8"), "speed", "")
        for path in set(report.parent.glob(_REPORTS)) - {report}:
            _read(path)


def _read(path: Path) -> dict[str, Any]:
    """Raises MoloraError for what is no report."""
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        section([report])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MoloraError(f"{path} is no report of molora.bench. Make it anew, or move it away.") from error
    return report


def _one(model: str, args: argparse.Namespace) -> dict[str, Any]:
    try:
        report = run(model, args.base, args.quantize, args.device, args.quick)
    except torch.OutOfMemoryError as error:
        raise TooLargeError(f"{model} does not fit on {args.device}. Try --quantize 4bit, or a smaller one.") from error
    print(table(report), flush=True)
    return report


def _all(args: argparse.Namespace) -> dict[str, Any]:
    """A size that does not fit is told and left out."""
    shapes = {}
    for name in args.all_shapes or ("MING-MOE-1.8B", "MING-MOE-7B", "MING-MOE-14B"):
        try:
            shapes[name] = _one(name, args)
        except TooLargeError as error:
            print(f"{error} It is left out.", file=sys.stderr)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        if args.json and shapes:  # what is done is kept
            args.json.write_text(json.dumps({"shapes": shapes}, indent=2) + "\n", encoding="utf-8")
    if not shapes:
        raise MoloraError(f"None of the sizes fits on {args.device}. Try --quantize 4bit, or --shape MING-MOE-1.8B.")
    return {"shapes": shapes}


if __name__ == "__main__":
    sys.exit(main())
