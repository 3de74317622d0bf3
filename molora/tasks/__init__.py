"""Medical tasks made from public files as their authors publish them."""

from __future__ import annotations

from molora.tasks import medquad, mts_dialog, ncbi_disease, pubmedqa
from molora.tasks.task import Item, Split, Task

TASKS: dict[str, Task] = {task.name: task for task in (medquad.TASK, pubmedqa.TASK, ncbi_disease.TASK, mts_dialog.TASK)}

__all__ = ["TASKS", "Item", "Split", "Task"]
