"""How every event of the page is wired: nothing of it is public API, and the model works for one at a time."""

from __future__ import annotations

from typing import Any

QUICK: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
"""For events that only look at a trace or change a choice; they must not wait behind a running answer."""

EVERY: dict[str, Any] = QUICK | {"trigger_mode": "multiple"}
"""For choices that may come faster than they are answered: none is lost. (Gradio's "always_last" would send the first
of them once more in place of the last.)"""

MODEL: dict[str, Any] = {"show_progress": "hidden", "concurrency_id": "model", "concurrency_limit": 1}
"""For whatever runs the model."""

QUEUE_SIZE = 24
"""Visitors who may wait for the model; the next one is told that it is busy."""
