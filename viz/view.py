"""What of a trace the reader wants to see: layers, projections, prompt or answer, and what colour means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from molora.errors import MoloraError
from molora.trace import ANSWER, PROMPT, RoutingTrace
from viz.language import noted, t

Show = Literal["both", "prompt", "answer"]
Colour = Literal["expert", "weight", "entropy"]


@dataclass(frozen=True)
class Shape:
    """What can be chosen from in a trace, and how many experts have a colour."""

    layers: tuple[int, ...]
    """The model's own numbers"""
    projections: tuple[str, ...]
    num_experts: int

    @classmethod
    def of(cls, trace: RoutingTrace) -> Shape:
        return cls(tuple(trace.layer_indices.tolist()), trace.projections, trace.num_experts)


@dataclass(frozen=True)
class View:
    """None means all. Applies to every figure of a page alike."""

    layers: tuple[int, ...] | None = None
    """The model's own layer numbers."""
    projections: tuple[str, ...] | None = None
    show: Show = "both"
    """"both" includes the chat template's own tokens, the other two leave them out."""
    colour: Colour = "expert"

    def cut(self, trace: RoutingTrace) -> RoutingTrace:
        """The trace for the chosen layers and projections, all tokens. Raises MoloraError for an unknown one."""
        return trace.select(
            layers=None if self.layers is None else list(self.layers),
            projections=None if self.projections is None else list(self.projections),
        )


def chosen_show(text: str) -> Show:
    """What a request calls `show`. Raises MoloraError for an unknown value, as do the other readers here."""
    if text not in get_args(Show):
        raise MoloraError(t("There is no such choice of tokens: {text!r}.", text=text[:20]))
    return cast(Show, text)


def chosen_colour(text: str) -> Colour:
    if text not in get_args(Colour):
        raise MoloraError(t("There is no such colour mode: {text!r}.", text=text[:20]))
    return cast(Colour, text)


def shown_tokens(trace: RoutingTrace, show: Show) -> NDArray[np.bool_]:
    """Which tokens `show` keeps [T]."""
    if show == "both":
        return np.ones(len(trace), bool)
    return trace.phase == (PROMPT if show == "prompt" else ANSWER)


def layer_choices(layers: Sequence[int]) -> list[str]:
    """What the layer menu offers: all, thirds, and each layer; `parse_layers` reads every one of them."""
    thirds = np.array_split(np.asarray(layers), 3) if len(layers) >= 6 else []
    spans = [f"{name} ({part[0]}-{part[-1]})" for name, part in zip(("early", "middle", "late"), thirds, strict=False)]
    return ["all", *spans, *(str(layer) for layer in layers)]


def parse_layers(text: str, known: Sequence[int]) -> tuple[int, ...] | None:
    """Reads "all", "7", "3-8, 12" or "early (0-9)"; None for all. A span leaves out layers without a router.

    `known`: the layers with routers, by the model's own numbers, ascending. Raises MoloraError for anything else and
    for layers that the model does not have.
    """
    text = text.strip()
    if text.lower() in ("", "all"):
        return None
    inner = re.fullmatch(r"[a-z]+ \((.*)\)", text)
    layers: set[int] = set()
    for part in (inner[1] if inner else text).split(","):
        span = re.fullmatch(r"\s*(\d{1,4})\s*(?:[-–]\s*(\d{1,4})\s*)?", part)
        if not span:
            raise MoloraError(t('Layers read like "7" or "3-8, 12"; {text!r} does not.', text=text[:40]))
        first, last = int(span[1]), int(span[2] or span[1])
        if first > last or first not in known or last not in known:
            asked = part.strip()[:20]
            if not known:
                raise MoloraError(t("This model has no layers with routers; {text!r} is not among them.", text=asked))
            said = noted("This model has layers {first} to {last}; {text!r} is not among them.")
            raise MoloraError(t(said, first=known[0], last=known[-1], text=asked))
        layers.update(layer for layer in known if first <= layer <= last)
    return tuple(sorted(layers))
