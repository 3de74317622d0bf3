"""What is measured side by side: the base alone, MoLoRA with and without records, the loop over experts, peft.

Every one is a model that the engine's own `Reading` reads; weights of the base are shared, never copied.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import torch
from torch import nn

from molora.bench.loop import loop_over_experts
from molora.config import ATTENTION_PROJECTIONS, EXPERT_PROJECTIONS
from molora.engine import Engine
from molora.grid import RouterGrid
from molora.info import float_dtype
from molora.reading import Reading
from molora.routers import grid_of
from molora.wrap import wrapped_linears

BASE, MOLORA, RECORDED, LOOP, LORA, XLORA = "base", "molora", "molora_recorded", "loop", "lora", "xlora"

NO_PEFT = "peft is not installed: pip install 'peft>=0.17,<1'"


class System(NamedTuple):
    """A model, and the routers of it that are recorded."""

    model: Any
    tokenizer: Any
    grid: RouterGrid

    @property
    def unrecorded(self) -> System:
        """The same with no router to record."""
        return self._replace(grid=RouterGrid([], [], (), 0, 0, self.grid.uses_cache))

    def reading(self, capacity: int) -> Reading:
        return Reading(self.model, self.tokenizer, self.grid, Lock(), capacity, candidates=bool(self.grid.routers))


@contextmanager
def systems_of(engine: Engine, base: Any, *, xlora: bool = False) -> Iterator[dict[str, System]]:
    """All that this machine can run, by name, while the context is open; see `missing` for the others.

    `base`: the engine's base on its own. The engine's weights of the adapter serve the loop too; peft's are random,
    of the rank that MoLoRA uses for a token.
    """
    recorded = System(engine.model, engine.tokenizer, grid_of(engine.model))
    models = {MOLORA: engine.model, BASE: base}
    with ExitStack() as stack:
        if recorded.grid.routers and wrapped_linears(engine.model):
            models[LOOP] = loop_over_experts(share(base), engine.model)
            if find_spec("peft"):
                models[LORA] = _lora(share(base), engine.model)
                if xlora:
                    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                    models[XLORA] = _xlora(share(base), engine.model, folder)
        systems = {name: recorded.unrecorded._replace(model=model.eval()) for name, model in models.items()}
        systems[RECORDED] = recorded
        if XLORA in systems:  # peft's X-LoRA refuses a cache: every token reads all before it again
            systems[XLORA] = systems[XLORA]._replace(grid=systems[XLORA].grid._replace(uses_cache=False))
        yield {name: systems[name] for name in (BASE, MOLORA, RECORDED, LOOP, LORA, XLORA) if name in systems}


def missing(systems: dict[str, Any]) -> dict[str, str]:
    """Which of peft's ways are not measured, and why."""
    why = NO_PEFT if not find_spec("peft") else "left out of this run"
    return {name: why for name in (LORA, XLORA) if name not in systems}


def share(model: nn.Module) -> Any:
    """The same model over the same weights, whose linears can be replaced without touching `model`."""
    leaves = (module for module in model.modules() if isinstance(module, nn.Linear | nn.Embedding))
    kept = [*leaves, *model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(one): one for one in kept})


def _lora(model: Any, source: nn.Module) -> Any:
    """Plain LoRA of peft, in place."""
    from peft import inject_adapter_in_model

    tuned = inject_adapter_in_model(_lora_config(source, mixed=True), model)
    return _cast(tuned, float_dtype(source))


def _xlora(model: Any, source: nn.Module, folder: Path) -> Any:
    """X-LoRA of peft with as many adapters as MoLoRA has experts, all of them dense."""
    from peft import XLoraConfig, get_peft_model

    experts = max(linear.num_experts for linear in wrapped_linears(source).values())
    part = folder / "adapter"
    get_peft_model(share(model), _lora_config(source, mixed=False), autocast_adapter_dtype=False).save_pretrained(part)
    model.config.use_cache = False
    config = XLoraConfig(
        task_type="CAUSAL_LM",
        hidden_size=model.config.hidden_size,
        adapters={str(number): str(part) for number in range(experts)},
    )
    return get_peft_model(model, config, autocast_adapter_dtype=False)


def _lora_config(source: nn.Module, *, mixed: bool) -> Any:
    """`mixed`: the FFN's rank is that of the experts a token uses, together."""
    from peft import LoraConfig

    rank, top_k = next((one.r, one.router.top_k) for one in wrapped_linears(source).values() if one.router is not None)
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=2 * rank,
        rank_pattern=dict.fromkeys(EXPERT_PROJECTIONS, top_k * rank) if mixed else {},
        target_modules=[*ATTENTION_PROJECTIONS, *EXPERT_PROJECTIONS],
    )


def _cast(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.to(dtype)
    return model
