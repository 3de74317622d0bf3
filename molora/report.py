"""`python -m molora.report results.json FILE...`: writes the tables of README and model card from the suite's results.

A file names the place of a table by a pair of comments, `<!-- results:begin -->` and `<!-- results:end -->` for the
short one, `<!-- results-by-task:begin -->` and its end for the one with every task. What lies between is replaced.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from molora.errors import MoloraError

LABELS = {
    "base": "base",
    "lora_total": "LoRA, same total",
    "lora_active": "LoRA, same active",
    "molora": "MoLoRA",
    "molora_uniform": "MoLoRA, uniform",
    "oracle": "task oracle",
}
"""The systems' names in tables and figures, in their order."""

METRICS = {"rouge_l": "ROUGE-L", "accuracy": "accuracy", "macro_f1": "macro F1", "set_f1": "micro F1"}


def systems_of(results: dict[str, Any]) -> list[str]:
    """The systems of a report, in the order of `LABELS`."""
    return sorted(results["macro"], key=[*LABELS, *results["macro"]].index)


def short_table(results: dict[str, Any]) -> str:
    """Markdown: means by family and over all tasks, parameters, differences, and what routing knows of tasks."""
    systems = systems_of(results)
    rows = [_mean_row(family, part["tasks"], part["systems"], systems) for family, part in results["families"].items()]
    parts = [
        _table(["mean over tasks", *map(_label, systems)], [*rows, _macro_row(results, systems), _trained(results)]),
        _differences(results["paired"]),
        _routing(results["routing"]),
    ]
    return "\n\n".join(part for part in parts if part)


def full_table(results: dict[str, Any]) -> str:
    """Markdown: every task, grouped by family, with its metric and number of items; at the end the mean."""
    systems = systems_of(results)
    rows = []
    for family, part in results["families"].items():
        tasks = {name: task for name, task in results["tasks"].items() if task["family"] == family}
        rows += [
            [name, METRICS[task["metric"]], str(task["n"]), *(f"{task['systems'][s]['score']:.1f}" for s in systems)]
            for name, task in tasks.items()
        ]
        label, *means = _mean_row(family, part["tasks"], part["systems"], systems)
        rows.append([f"*{label}*", "", "", *(f"*{mean}*" for mean in means)])
    label, *means = _macro_row(results, systems)
    rows.append([label, "", "", *means])
    return _table(["task", "metric", "items", *map(_label, systems)], rows)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {"results": short_table, "results-by-task": full_table}


def filled(text: str, results: dict[str, Any]) -> str:
    """The text of a Markdown file with its tables made anew. Raises MoloraError if it has no place for one."""
    places = [name for name in TABLES if f"<!-- {name}:begin -->" in text]
    if not places:
        raise MoloraError(f"There is no <!-- {next(iter(TABLES))}:begin --> to put a table at.")
    for name in places:
        text = replaced(text, name, TABLES[name](results))
    return text


def replaced(text: str, name: str, content: str) -> str:
    """`text` with `content` between the marks of block `name`. Raises MoloraError unless there is one such block."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    block = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.S)
    found = block.findall(text)
    if len(found) != 1 or text.count(begin) != 1 or text.count(end) != 1:
        raise MoloraError(f"One pair of {begin} and {end} is needed, in this order; there is another number of them.")
    return block.sub(lambda _: f"{begin}\n{content}\n{end}", text)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m molora.report", description=__doc__)
    parser.add_argument("results", type=Path, help="JSON of python -m molora.evaluate --suite")
    parser.add_argument("files", type=Path, nargs="+", help="Markdown files with places for tables")
    args = parser.parse_args(argv)
    try:
        results = json.loads(args.results.read_text(encoding="utf-8"))
        texts = {path: _filled_file(path, results) for path in args.files}
    except MoloraError as error:
        print(f"molora.report: {error}", file=sys.stderr)
        return 1
    except (OSError, ValueError, KeyError) as error:
        print(f"molora.report: a file cannot be used ({error!r}).", file=sys.stderr)
        return 1
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return 0


def _filled_file(path: Path, results: dict[str, Any]) -> str:
    try:
        return filled(path.read_text(encoding="utf-8"), results)
    except MoloraError as error:
        raise MoloraError(f"{path}: {error}") from error


def _mean_row(family: str, count: int, scores: dict[str, Any], systems: Sequence[str]) -> list[str]:
    return [f"{family} ({count})", *(f"{scores[system]['score']:.1f}" for system in systems)]


def _macro_row(results: dict[str, Any], systems: Sequence[str]) -> list[str]:
    macro = results["macro"]
    return [f"**all ({len(results['tasks'])})**", *(f"**{macro[s]['score']:.1f}** {_span(macro[s])}" for s in systems)]


def _trained(results: dict[str, Any]) -> list[str]:
    sizes = results["systems"]
    millions = (sizes[system]["trained_parameters"] / 1e6 for system in systems_of(results))
    return ["trained weights", *(f"{size:.1f} M" if size else "0" for size in millions)]


def _differences(paired: dict[str, Any]) -> str:
    if not paired:
        return ""
    rows = [[_label(name.partition("-")[2]), f"{d['difference']:+.1f} {_span(d, '+')}"] for name, d in paired.items()]
    return _table([f"{LABELS['molora']} minus", "difference of the means"], rows)


def _routing(routing: dict[str, float] | None) -> str:
    if routing is None:
        return ""
    return (
        f"Normalised mutual information of task and top expert: {routing['nmi']:.3f} (tasks shuffled: "
        f"{routing['nmi_shuffled']:.4f}). Prompts whose task is recovered from their routing: "
        f"{routing['task_recovery']:.0%} (chance: {routing['task_recovery_chance']:.0%})."
    )


def _span(scores: dict[str, float], sign: str = "") -> str:
    return f"({scores['low']:{sign}.1f} to {scores['high']:{sign}.1f})"


def _label(system: str) -> str:
    return LABELS.get(system, system)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


if __name__ == "__main__":
    sys.exit(main())
