"""The lean pass: a Llama- or Qwen2-shaped model as a flat function over tensors, with routing and edits.

It computes what the modules compute with far less Python; every other model takes the modules. `fits` decides which.
`step.py`, over the linears of `site.py`, is all of it in torch's own functions. Where a CPU has a base in 4 bits
`compiled.py` is faster, for single tokens and, by `linears.py`, for what many read; on a GPU the kernels of `gpu/`, and
for decode the recording of all of it in `graph.py`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from molora.fast.cache import Among, growing_cache
    from molora.fast.graph import GraphedStep, decode_of
    from molora.fast.plan import Plan
    from molora.fast.step import Step
    from molora.fast.store import (
        allow_packing,
        fits,
        lean_step,
        may_pack,
        packs,
        packs_prompts,
        prompt_dtype,
        set_up,
        step_of,
    )

__all__ = [
    "Among",
    "GraphedStep",
    "Plan",
    "Step",
    "allow_packing",
    "decode_of",
    "fits",
    "growing_cache",
    "lean_step",
    "may_pack",
    "packs",
    "packs_prompts",
    "prompt_dtype",
    "set_up",
    "step_of",
]

_ELSEWHERE = {
    "Among": "cache",
    "GraphedStep": "graph",
    "Plan": "plan",
    "Step": "step",
    "decode_of": "graph",
    "growing_cache": "cache",
}
"""What is not in `store`"""


def __getattr__(name: str) -> Any:
    """Imports the models' classes, which take longer than all else, only where more than `kernel` is asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'molora.fast' has no attribute {name!r}")
    found = getattr(import_module(f"molora.fast.{_ELSEWHERE.get(name, 'store')}"), name)
    globals()[name] = found
    return found
