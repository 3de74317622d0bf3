"""RoutingTrace: what every router did with every token, as plain arrays. Knows numpy only.

Axes: T tokens, L layers, P projections, E experts, K picked, C candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

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
        "candidate_ids": (np.int32, "TC"),
        "candidate_probabilities": (np.float32, "TC"),
    },
    texts={"token_text": list, "projections": list, "meta": dict, "candidate_text": dict},
    version=1,
    mend="Save it again.",
    later=frozenset({"candidate_ids", "candidate_probabilities", "candidate_text"}),
)


def no_candidates(rows: int) -> dict[str, Any]:
    """A trace's fields of them, where none were recorded."""
    ids, probabilities = np.empty((rows, 0), np.int32), np.empty((rows, 0), np.float32)
    return {"candidate_ids": ids, "candidate_probabilities": probabilities, "candidate_text": {}}


class First(NamedTuple):
    """So many of the first of a list that only grows."""

    of: list[str]
    rows: int


class _Texts:
    """A list, or one that is made when it is first looked at: to copy all texts so far for each token would take longer
    the longer the text is."""

    def __get__(self, trace: RoutingTrace | None, _: type) -> list[str]:
        if trace is None:
            raise AttributeError  # dataclass looks for a default, which there is none of
        held = vars(trace)["token_text"]
        if isinstance(held, First):
            held = vars(trace)["token_text"] = held.of[: held.rows]
        texts: list[str] = held
        return texts

    def __set__(self, trace: RoutingTrace, texts: list[str] | First) -> None:
        vars(trace)["token_text"] = texts


@dataclass(eq=False, kw_only=True)
class RoutingTrace:
    """Row t is the routing while token t was read; it shaped the prediction of token t + 1."""

    token_ids: NDArray[np.int32]
    """[T]"""
    token_text: _Texts = _Texts()
    """T pieces of whole characters, a list; "" where a token only begins a character that a later one completes"""
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
    candidate_ids: NDArray[np.int32] = field(default_factory=lambda: np.empty((0, 0), np.int32))
    """[T, C], the model's likeliest next tokens after it read token t, likeliest first; -1 where the vocabulary was not
    scored: it is only where the model speaks, at the prompt's last token and in the answer. C = 0: never recorded"""
    candidate_probabilities: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    """[T, C], the plain softmax of the model's logits, before temperature, top-p and penalty; 0 where missing"""
    candidate_text: Mapping[str, str] = field(default_factory=dict)
    """str(id) -> what the candidate would add; "" for a part of a character"""

    def __post_init__(self) -> None:
        """Raises MoloraError naming both sizes if the shapes do not agree."""
        for name in ("candidate_ids", "candidate_probabilities"):
            if np.shape(held := getattr(self, name)) == (0, 0):
                setattr(self, name, held.reshape(len(self), 0))
        _LAYOUT.check(self, {"T": len(self), "P": len(self.projections)})

    @classmethod
    def recorded(cls, **fields: Any) -> RoutingTrace:
        """One of all these fields, whose arrays agree as those of a recorder do: it is not checked, for it is made for
        each token."""
        trace = cls.__new__(cls)
        vars(trace).update(fields)
        return trace

    def __len__(self) -> int:
        texts = vars(self)["token_text"]
        return texts.rows if isinstance(texts, First) else len(texts)

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

    def candidates(self, row: int) -> list[tuple[int, str, float]]:
        """(id, text, probability) of the likeliest tokens after row `row`, likeliest first; empty where none."""
        found = zip(self.candidate_ids[row].tolist(), self.candidate_probabilities[row].tolist(), strict=True)
        return [(token, self.candidate_text.get(str(token), ""), share) for token, share in found if token >= 0]

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
        cut |= {"meta": self.meta, "candidate_text": self.candidate_text}
        return RoutingTrace(**cut, token_text=[self.token_text[row] for row in rows], projections=names)

    def save(self, path: str | Path | IO[bytes]) -> None:
        """Writes a compressed `.npz` of plain arrays; texts and `meta` are JSON in UTF-8 bytes. No pickle inside."""
        _LAYOUT.save(self, path)

    @classmethod
    def load(cls, path: str | Path | IO[bytes]) -> RoutingTrace:
        """Reads what `save` wrote. Raises MoloraError if the file is missing, damaged, or no trace."""
        arrays, texts = _LAYOUT.load(path)
        if not all(isinstance(text, str) for text in texts.get("candidate_text", {}).values()):
            raise MoloraError(f"{path}: candidate_text holds what is no text.")
        trace = cls(**arrays, **(texts | {"projections": tuple(texts["projections"])}))
        for name, low, high in (
            ("phase", TEMPLATE, ANSWER),
            ("expert_ids", -1, trace.num_experts - 1),
            ("candidate_ids", -1, 2**31 - 1),
            ("candidate_probabilities", 0, 1),
        ):
            held = getattr(trace, name)
            if (wrong := ~((held >= low) & (held <= high))).any():  # so that NaN is wrong as well
                raise MoloraError(f"{path}: {name} holds {held[wrong][0]}; expected {low} to {high}.")
        return trace
