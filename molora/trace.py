"""RoutingTrace: what every router did with every token, as plain arrays. Knows numpy only.

Axes: T tokens, L layers, P projections, E experts, K picked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from molora.errors import MoloraError
from molora.npz import Layout

TEMPLATE, PROMPT, ANSWER = 0, 1, 2
"""Values of `RoutingTrace.phase`: the chat template's own tokens, what was asked, what was answered."""

_LAYOUT = Layout(
    kind="trace",
    arrays={
        "token_ids": (np.int32, "T"),
        "phase": (np.uint8, "T"),
        "router_logits": (np.float32, "TLPE"),
        "expert_ids": (np.int16, "TLPK"),
        "expert_weights": (np.float32, "TLPK"),
        "layer_indices": (np.int16, "L"),
    },
    texts={"token_text": list, "projections": list, "meta": dict},
    version=1,
    mend="Save it again.",
)


@dataclass(eq=False)
class RoutingTrace:
    """Row t is the routing while token t was read; it shaped the prediction of token t + 1."""

    token_ids: NDArray[np.int32]
    """[T]"""
    token_text: list[str]
    """T pieces of whole characters; "" where a token only begins a character that a later one completes"""
    phase: NDArray[np.uint8]
    """[T], of TEMPLATE, PROMPT, ANSWER"""
    router_logits: NDArray[np.float32]
    """[T, L, P, E]; NaN where the router has not run"""
    expert_ids: NDArray[np.int16]
    """[T, L, P, K], strongest first; -1 where the router has not run, or a switched-off slot"""
    expert_weights: NDArray[np.float32]
    """[T, L, P, K], the weights really applied; 0 where missing"""
    layer_indices: NDArray[np.int16]
    """[L], the model's own numbers"""
    projections: tuple[str, ...]
    meta: dict[str, Any] = field(default_factory=dict)
    """model, base, adapter sha256, quantization, dtype, device, sampling, seed, edit, versions"""

    def __post_init__(self) -> None:
        """Raises MoloraError naming both sizes if the shapes do not agree."""
        _LAYOUT.check(self, {"T": len(self.token_text), "P": len(self.projections)})

    def __len__(self) -> int:
        return len(self.token_text)

    @property
    def num_layers(self) -> int:
        return self.router_logits.shape[1]

    @property
    def num_experts(self) -> int:
        return self.router_logits.shape[3]

    @property
    def top_k(self) -> int:
        return self.expert_ids.shape[3]

    @property
    def edit(self) -> str:
        """The edit that the trace was made under, in words; "" without one."""
        edit = self.meta.get("edit")
        return str(edit.get("words") or "unnamed" if isinstance(edit, dict) else edit) if edit else ""

    def select(
        self,
        *,
        tokens: slice | NDArray[np.bool_] | None = None,
        layers: list[int] | None = None,
        projections: list[str] | None = None,
    ) -> RoutingTrace:
        """The part of the trace for some tokens (slice or mask [T]), layers (the model's own numbers) and projections.

        None means all. Slices of tokens share memory with this trace. Raises MoloraError for an unknown layer or
        projection.
        """
        rows = np.arange(len(self))[tokens] if tokens is not None else np.arange(len(self))
        cut: dict[str, Any] = {name: getattr(self, name) for name in _LAYOUT.arrays}
        if tokens is not None:
            cut |= {name: cut[name][tokens] for name, (_, axes) in _LAYOUT.arrays.items() if axes[0] == "T"}
        names = self.projections
        if layers is not None:
            known = self.layer_indices.tolist()
            if unknown := [layer for layer in layers if layer not in known]:
                raise MoloraError(f"The trace has no layer {unknown[0]}; it has {known[0]} to {known[-1]}.")
            at = [known.index(layer) for layer in layers]
            cut |= {name: cut[name][:, at] for name in ("router_logits", "expert_ids", "expert_weights")}
            cut["layer_indices"] = self.layer_indices[at]
        if projections is not None:
            if missing := [name for name in projections if name not in names]:
                raise MoloraError(f"The trace has no projection {missing[0]!r}; it has {', '.join(names)}.")
            at = [names.index(name) for name in projections]
            cut |= {name: cut[name][:, :, at] for name in ("router_logits", "expert_ids", "expert_weights")}
            names = tuple(projections)
        return RoutingTrace(**cut, token_text=[self.token_text[row] for row in rows], projections=names, meta=self.meta)

    def save(self, path: str | Path | IO[bytes]) -> None:
        """Writes a compressed `.npz` of plain arrays; texts and `meta` are JSON in UTF-8 bytes. No pickle inside."""
        _LAYOUT.save(self, path)

    @classmethod
    def load(cls, path: str | Path | IO[bytes]) -> RoutingTrace:
        """Reads what `save` wrote. Raises MoloraError if the file is missing, damaged, or no trace."""
        arrays, texts = _LAYOUT.load(path)
        trace = cls(
            **arrays, token_text=texts["token_text"], projections=tuple(texts["projections"]), meta=texts["meta"]
        )
        for name, low, high in (("phase", TEMPLATE, ANSWER), ("expert_ids", -1, trace.num_experts - 1)):
            if (wrong := (arrays[name] < low) | (arrays[name] > high)).any():
                raise MoloraError(f"{path}: {name} holds {arrays[name][wrong][0]}; expected {low} to {high}.")
        return trace
