"""`python -m viz.speed`: reports of `python -m molora.bench --json` as a page of pictures that works offline."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from molora.errors import MoloraError
from viz.figures.speed import speed

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Speed of MoLoRA</title>
<style>
body {{ margin: 1rem auto; max-width: 60rem; background: white }}
section {{ overflow-x: auto }}
section > div {{ min-width: 44rem }}
</style>
<body>
{pictures}
</body>
</html>
"""


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m viz.speed", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("reports", nargs="+", type=Path, metavar="REPORT", help="file that --json wrote")
    parser.add_argument("--out", type=Path, default=Path("speed.html"), help="the page")
    args = parser.parse_args(argv)
    if args.out.absolute() in [path.absolute() for path in args.reports]:
        parser.error(f"--out would overwrite the report {args.out}")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = arguments(argv)
    try:
        page = page_of([run for path in args.reports for run in runs(path)])
        args.out.write_text(page, encoding="utf-8")
    except (MoloraError, OSError) as error:
        print(f"viz.speed: {error}", file=sys.stderr)
        return 1
    print(f"{args.out} shows {'it' if len(args.reports) == 1 else 'them'}.")
    return 0


def runs(path: Path) -> list[dict[str, Any]]:
    """What a report holds: one run, or one for each size. Raises MoloraError for what is no report."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refused)
        found = list(report["shapes"].values()) if "shapes" in report else [report]
        if not found:
            raise ValueError("no run")
        page_of(found).encode()
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise MoloraError(f"{path} is no report of molora.bench; make one with its --json.") from error
    return found


def _refused(constant: str) -> None:
    """NaN and infinities, which JSON has not."""
    raise ValueError(constant)


def page_of(found: Sequence[dict[str, Any]]) -> str:
    """HTML with a picture of each run."""
    pictures = [
        speed(run, height=420).to_html(full_html=False, include_plotlyjs=not number, config={"displaylogo": False})
        for number, run in enumerate(found)
    ]
    return _PAGE.format(pictures="\n".join(f"<section>{picture}</section>" for picture in pictures))


if __name__ == "__main__":
    sys.exit(main())
