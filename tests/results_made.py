"""A results.json made up: two systems, and their answers to three tasks of two families."""

from __future__ import annotations

from typing import Any

from molora.evaluation.results import Size, results
from molora.tasks import Item, Split, Task
from molora.tasks.sources import Folder
from molora.tasks.task import Family, Metric

ROUTING = {"nmi": 0.0612, "nmi_shuffled": 0.0002, "task_recovery": 0.81, "task_recovery_chance": 0.25}


def made_task(name: str, family: Family, metric: Metric) -> Task:
    source = Folder(name=f"The book of {name}", licence="CC0", where="Nowhere.", folder=name, files=())
    return Task(name, family, metric, (source,), build=lambda _: Split([], []), human=True)


TASKS = (
    made_task("causes", "generation", "rouge_l"),
    made_task("sections", "generation", "rouge_l"),
    made_task("trials", "classification", "accuracy"),
)


def made_results(routing: dict[str, float] | None = None) -> dict[str, Any]:
    items = {task.name: [Item(f"{n}?", "yes" if n % 2 else "no it is not") for n in range(20)] for task in TASKS}
    right = {name: [item.answer for item in part] for name, part in items.items()}
    wrong = {name: ["yes"] * 20 for name in items}
    sizes = {"molora": Size(2_400_000, 137_000_000), "base": Size(0, 134_600_000)}
    return results(TASKS, items, {"molora": right, "base": wrong}, sizes, seed=0, routing=routing)
