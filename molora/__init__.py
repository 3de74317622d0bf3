"""MoLoRA Lens: answers of a mixture of LoRA experts, and what its routers did for every token."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from molora.errors import MoloraError
from molora.openmp import keep_awake
from molora.trace import RoutingTrace

if TYPE_CHECKING:
    from molora.edits import RoutingEdit
    from molora.engine import Engine, Step
    from molora.loading import load

__version__ = "0.1.0"
__all__ = ["Engine", "MoloraError", "RoutingEdit", "RoutingTrace", "Step", "load"]

_NEEDS_TORCH = {
    "load": "molora.loading",
    "Engine": "molora.engine",
    "RoutingEdit": "molora.edits",
    "Step": "molora.engine",
}

keep_awake()


def __getattr__(name: str) -> Any:
    """Imports torch only when the engine is asked for, so that traces and pictures work without it."""
    if name in _NEEDS_TORCH:
        return getattr(import_module(_NEEDS_TORCH[name]), name)
    raise AttributeError(f"module 'molora' has no attribute {name!r}")
