"""`python -m molora.evaluate`: compares systems on the suite of medical tasks, or runs published benchmarks.

With --suite all systems answer the same held-out items; one that is not there is trained first, as --molora was.
Choices are picked by log-likelihood, free answers decoded greedily in batches; scores come with 95% bootstrap
intervals. Answers are kept in WORK/predictions as soon as they are there: interrupted, the same command goes on, and
once all are there the report needs no model. They are made anew when the items, or a system's weights, are others.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import nn
from tqdm.auto import tqdm

from molora.base import QUANTIZE
from molora.demo import DEMO_ADAPTER
from molora.errors import MoloraError
from molora.evaluation import harness
from molora.evaluation.predict import System, predict
from molora.evaluation.results import ROUTING, Predictions, Size, results
from molora.evaluation.systems import SYSTEMS, Suite
from molora.layers import MoloraLinear
from molora.report import short_table
from molora.tasks import TASKS, Item, Task, build, known

ALL = "all"


class Systems(Protocol):
    """Where the compared systems come from."""

    def open(self, name: str) -> System:
        """The system; raises MoloraError if it cannot be had."""

    def fingerprint(self, name: str) -> str | None:
        """The checksum of its weights; None: not known, and answers kept earlier are believed."""


class Kept:
    """Answers and sizes in `work`/predictions: a JSON file for each system, and one for each of its tasks."""

    def __init__(self, work: Path) -> None:
        self._folder = work / "predictions"

    def read(self, name: str, fresh: dict[str, Any]) -> dict[str, Any] | None:
        """What was kept under `name`; None if it is not there, or belongs to something else than `fresh` says."""
        try:
            kept = json.loads((self._folder / f"{name}.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        same = isinstance(kept, dict) and all(kept.get(key) == value for key, value in fresh.items())
        return kept if same else None

    def write(self, name: str, value: dict[str, Any]) -> None:
        """Whole or not at all."""
        path = self._folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        part.replace(path)


def sample(task: Task, test: Sequence[Item], count: int, seed: int) -> list[Item]:
    """The items that all systems answer: at most `count` of the test half, the same for the same seed."""
    return random.Random(f"{seed} {task.name}").sample(list(test), min(count, len(test)))


def answers(
    systems: Systems, name: str, tasks: Sequence[Task], items: dict[str, list[Item]], work: Path, batch_size: int
) -> tuple[dict[str, list[str]], Size]:
    """task -> a system's answers, and its size. The system is opened only if some of that is not kept yet."""
    kept = Kept(work)
    digests = {task.name: digest(task, items[task.name]) for task in tasks}

    def look_up() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any] | None]:
        """What tells the system's weights, each task's answers or None, and the system's size or None."""
        fingerprint = systems.fingerprint(name)
        weights = {} if fingerprint is None else {"weights": fingerprint}
        found = {task: kept.read(f"{name}/{task}", weights | {"items": of}) for task, of in digests.items()}
        return weights, found, kept.read(name, weights)

    weights, found, size = look_up()
    if size is None or None in found.values():
        system = systems.open(name)  # which may train it: only then it has weights to tell
        weights, found, _ = look_up()
        size = {**weights, **size_of(system.model)._asdict()}
        kept.write(name, size)
        for task in tqdm([task for task in tasks if found[task.name] is None], desc=name, unit="task"):
            said = predict(system, task, items[task.name], batch_size)
            found[task.name] = weights | {"items": digests[task.name], "predictions": said}
            kept.write(f"{name}/{task.name}", found[task.name])
    said_of = {task: record["predictions"] for task, record in found.items() if record}
    return said_of, Size(size["trained"], size["total"])


def digest(task: Task, items: Sequence[Item]) -> str:
    """Of all that the answers to these items depend on, and of the right ones."""
    content = json.dumps([task.answer_tokens, [[item.prompt, item.answer, item.choices] for item in items]])
    return hashlib.sha256(content.encode()).hexdigest()


def size_of(model: nn.Module) -> Size:
    """What the adapter adds is trained; weights that two layers share count once."""
    adapters = [module for module in model.modules() if isinstance(module, MoloraLinear)]
    added = {p for linear in adapters for p in linear.parameters()}
    frozen = {p for linear in adapters for p in linear.base_layer.parameters()}
    return Size(sum(p.numel() for p in added - frozen), sum(p.numel() for p in model.parameters()))


def routing_of(atlas: Path | None) -> dict[str, float] | None:
    """What `python -m molora.atlas` found. Raises MoloraError for a file that is not its."""
    if atlas is None:
        return None
    try:
        content = json.loads(atlas.read_text(encoding="utf-8"))
        return {key: float(content[key]) for key in ROUTING}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise MoloraError(
            f"{atlas} has no {', '.join(ROUTING)} ({error!r}). Make it with python -m molora.atlas."
        ) from error


def run(args: argparse.Namespace, systems: Systems) -> dict[str, Any]:
    """Answers what is not answered yet, and writes the report. Raises MoloraError for what cannot be used."""
    names = _chosen("system", args.systems, list(SYSTEMS))
    wanted = [task.name for task in known(_chosen("task", args.tasks, list(TASKS)))]
    for option in ("items", "batch_size"):
        if getattr(args, option) < 1:
            raise MoloraError(f"--{option.replace('_', '-')} is {getattr(args, option)}; give 1 or more.")
    routing = routing_of(args.atlas)
    built = build(wanted, args.data)
    for task, reason in built.missing.items():
        if args.tasks != ALL:
            raise MoloraError(f"The task {task} cannot be built: {reason}")
        print(f"left out: {task} ({reason})", file=sys.stderr)
    tasks = [TASKS[name] for name in wanted if name in built.splits and built.splits[name].test]
    if not tasks:
        raise MoloraError("None of the tasks can be built; give the folder of their data sets with --data.")
    items = {task.name: sample(task, built.splits[task.name].test, args.items, args.seed) for task in tasks}
    predictions: Predictions = {}
    sizes: dict[str, Size] = {}
    for name in names:
        predictions[name], sizes[name] = answers(systems, name, tasks, items, args.work, args.batch_size)
    report = results(tasks, items, predictions, sizes, args.seed, routing)
    args.report.parent.mkdir(parents=True, exist_ok=True)
    args.report.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return report


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m molora.evaluate", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--suite", action="store_true", help="compare the systems on the tasks of python -m molora.tasks")
    harness.add_name(what)
    parser.add_argument("--data", type=Path, help="folder with the data sets that have to be fetched by hand")
    parser.add_argument("--report", type=Path, default=Path("results.json"), help="file for the report")
    parser.add_argument("--batch-size", type=int, default=40, help="prompts answered freely at once")
    suite = parser.add_argument_group("the suite")
    suite.add_argument("--molora", type=Path, default=DEMO_ADAPTER, help="the trained MoLoRA checkpoint to compare")
    suite.add_argument("--work", type=Path, default=Path("runs/suite"), help="folder of the systems and their answers")
    suite.add_argument("--tasks", default=ALL, help="names with commas between them, or 'all' that can be built")
    suite.add_argument("--systems", default=ALL, help=f"of {', '.join(SYSTEMS)}")
    suite.add_argument("--items", type=int, default=40, help="the most test items of a task, a fixed random choice")
    suite.add_argument("--seed", type=int, default=0, help="of that choice and of the bootstrap")
    suite.add_argument("--atlas", type=Path, help="JSON of python -m molora.atlas, for the report's routing part")
    published = parser.add_argument_group("published benchmarks")
    published.add_argument("--model", default="demo", help="hub id, folder, or 'demo'")
    published.add_argument("--base", help="hub id or folder of the base; default: the one the checkpoint names")
    published.add_argument("--quantize", choices=QUANTIZE, default="auto", help="of the base")
    published.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    harness.add_options(published)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None, systems: Systems | None = None) -> int:
    args = parse(argv)
    try:
        if args.suite:
            print(short_table(run(args, systems or Suite(args.molora, args.work, args.data))))
        else:
            report = harness.run(args)
            print(harness.table(report))
            args.report.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except MoloraError as error:
        print(f"molora.evaluate: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"molora.evaluate: interrupted; the same command goes on from what is in {args.work}.", file=sys.stderr)
        return 1
    print(f"\nThe whole report is in {args.report}.")
    return 0


def _chosen(kind: str, text: str, all_names: Sequence[str]) -> list[str]:
    """ "a, b" -> names. Raises MoloraError for a name that is none of them."""
    if text == ALL:
        return list(all_names)
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in names:
        if name not in all_names:
            raise MoloraError(f"There is no {kind} {name!r}; known are {', '.join(all_names)}.")
    if not names:
        raise MoloraError(f"No {kind} is named; known are {', '.join(all_names)}.")
    return names


if __name__ == "__main__":
    sys.exit(main())
