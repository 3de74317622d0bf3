"""RoutingEdit: which experts may answer, said as rules and applied as masks over the E experts of each router."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from molora.errors import MoloraError

Kind = Literal["drop", "reroute", "force", "alone", "uniform", "attention_off"]

_WORDS = {"drop": "without", "reroute": "never picking", "force": "always picking", "alone": "all tokens to"}


@dataclass(frozen=True)
class Rule:
    """One change; None means all of them."""

    kind: Kind
    experts: tuple[int, ...] | None = None
    layers: tuple[int, ...] | None = None
    projections: tuple[str, ...] | None = None

    def covers(self, layer: int, projection: str) -> bool:
        return (self.layers is None or layer in self.layers) and (
            self.projections is None or projection in self.projections
        )

    def __str__(self) -> str:
        if self.kind == "attention_off":
            return "without the attention LoRA"
        words = [_WORDS[self.kind], _listed("expert", self.experts)] if self.kind in _WORDS else ["equal weights"]
        if self.kind == "alone":
            words.append("alone")
        if self.layers is not None:
            words.append(f"in {_listed('layer', self.layers)}")
        if self.projections is not None:
            words.append(f"of {', '.join(self.projections)}")
        return " ".join(words)


class Masks(NamedTuple):
    """A RoutingEdit as one router meets it."""

    offset: Tensor
    """float32 [E], added to the ranking: -inf cannot be picked, +inf always is"""
    kept: Tensor
    """bool [E]; False: picked, but its contribution is skipped"""
    shift: Tensor
    """float32 [E], added to the picked logits before their softmax: -inf leaves all the weight to the others"""
    sharpness: float | Tensor = 1.0
    """The picked logits are multiplied with it: 0 makes all their weights equal"""

    @classmethod
    def stacked(cls, masks: Sequence[Masks]) -> Masks:
        """Those of P routers side by side, [P, E]; sharpness [P, 1]."""
        sharpness = torch.tensor([[float(one.sharpness)] for one in masks], device=masks[0].offset.device)
        return cls(
            torch.stack([one.offset for one in masks]),
            torch.stack([one.kept for one in masks]),
            torch.stack([one.shift for one in masks]),
            sharpness,
        )


@dataclass(frozen=True)
class RoutingEdit:
    """Rules that all hold at once; join them with `|`. Layers are the model's own numbers."""

    rules: tuple[Rule, ...] = ()

    @classmethod
    def drop(
        cls, experts: Iterable[int], layers: Iterable[int] | None = None, projections: Iterable[str] | None = None
    ) -> RoutingEdit:
        """Skips what these experts would add; the weights of the others stay."""
        return cls((_rule("drop", experts, layers, projections),))

    @classmethod
    def reroute(
        cls, experts: Iterable[int], layers: Iterable[int] | None = None, projections: Iterable[str] | None = None
    ) -> RoutingEdit:
        """These experts cannot be picked; top-k runs among the rest."""
        return cls((_rule("reroute", experts, layers, projections),))

    @classmethod
    def force(
        cls, experts: Iterable[int], layers: Iterable[int] | None = None, projections: Iterable[str] | None = None
    ) -> RoutingEdit:
        """These experts are always picked; their weights are the softmax over what is picked, as ever."""
        return cls((_rule("force", experts, layers, projections),))

    @classmethod
    def alone(
        cls, expert: int, layers: Iterable[int] | None = None, projections: Iterable[str] | None = None
    ) -> RoutingEdit:
        """Every token goes to this expert with a weight of 1, and to no other, as if it were a plain LoRA."""
        return cls((_rule("alone", [expert], layers, projections),))

    @classmethod
    def uniform(cls, layers: Iterable[int] | None = None, projections: Iterable[str] | None = None) -> RoutingEdit:
        """The picked experts stay, but each has the weight 1 / K."""
        return cls((replace(_rule("uniform", (), layers, projections), experts=None),))

    @classmethod
    def experts_off(cls) -> RoutingEdit:
        """MoLoRA adds nothing; the attention's LoRA stays."""
        return cls((Rule("drop"),))

    @classmethod
    def attention_off(cls) -> RoutingEdit:
        """The attention's LoRA adds nothing; the experts stay."""
        return cls((Rule("attention_off"),))

    @classmethod
    def base(cls) -> RoutingEdit:
        """The base model alone."""
        return cls.experts_off() | cls.attention_off()

    def __or__(self, other: RoutingEdit) -> RoutingEdit:
        return RoutingEdit(self.rules + other.rules)

    def __str__(self) -> str:
        return "; ".join(map(str, self.rules)) or "no edit"

    def to_dict(self) -> dict[str, Any]:
        """In words and as data, for `RoutingTrace.meta`."""
        return {"words": str(self), "rules": [asdict(rule) for rule in self.rules]}

    def check(self, num_experts: int, top_k: int, layers: list[int], projections: tuple[str, ...]) -> None:
        """Raises MoloraError for what the model does not have, or if a router is left without a choice."""
        for rule in self.rules:
            for name, given, known in (
                ("expert", rule.experts, list(range(num_experts))),
                ("layer", rule.layers, layers),
                ("projection", rule.projections, list(projections)),
            ):
                for value in given or ():
                    if value not in known:
                        there = (
                            f"{known[0]} to {known[-1]}"
                            if known and name != "projection"
                            else ", ".join(map(str, known))
                        )
                        raise MoloraError(f"The edit names {name} {value!r}; the model has {there or 'none'}.")
        for layer in layers:
            for projection in projections:
                barred, forced = (self.experts(kind, layer, projection, num_experts) for kind in ("reroute", "force"))
                where = f"in layer {layer}, {projection}"
                if both := barred & forced:
                    raise MoloraError(f"The edit both bars and forces expert {min(both)} {where}.")
                if num_experts - len(barred) < top_k:
                    raise MoloraError(f"The edit leaves fewer than {top_k} experts to pick from {where}.")
                alone = self.experts("alone", layer, projection, num_experts)
                if alone and (len(alone) > 1 or alone & barred or forced - alone):
                    raise MoloraError(
                        f"The edit sends all tokens to expert {min(alone)} alone, and says otherwise too {where}."
                    )
                if len(forced) > top_k:
                    raise MoloraError(f"The edit forces {len(forced)} experts {where}; each token has {top_k}.")

    def check_kinds(self, family: str, allowed: tuple[Kind, ...]) -> None:
        """Raises MoloraError for a kind of edit that the routers of a family of models do not allow."""
        for rule in self.rules:
            if rule.kind not in allowed:
                why = "has no attention LoRA to switch off" if rule.kind == "attention_off" else "does not allow that"
                raise MoloraError(
                    f'The edit says "{rule}"; {family} {why}. Edits that work with it: {", ".join(allowed)}.'
                )

    def touches(self, layer: int, projection: str) -> bool:
        """Whether any rule speaks of the router of this layer and projection."""
        return any(rule.kind != "attention_off" and rule.covers(layer, projection) for rule in self.rules)

    def masks(self, layer: int, projection: str, num_experts: int, device: torch.device) -> Masks:
        """For the router of one layer and projection."""
        offset, kept = torch.zeros(num_experts), torch.ones(num_experts, dtype=torch.bool)
        offset[sorted(self.experts("reroute", layer, projection, num_experts))] = -torch.inf
        offset[sorted(self.experts("force", layer, projection, num_experts))] = torch.inf
        kept[sorted(self.experts("drop", layer, projection, num_experts))] = False
        shift, flat = torch.zeros(num_experts), bool(self.experts("uniform", layer, projection, num_experts))
        if alone := sorted(self.experts("alone", layer, projection, num_experts)):
            others = torch.ones(num_experts, dtype=torch.bool)
            others[alone], flat = False, False  # one alone has all the weight in any case
            offset[alone], kept[others], shift[others] = torch.inf, False, -torch.inf
        return Masks(offset.to(device), kept.to(device), shift.to(device), 0.0 if flat else 1.0)

    def switches_off(self, part: Literal["experts", "attention"]) -> bool:
        """Whether a whole part adds nothing."""
        off = Rule("drop") if part == "experts" else Rule("attention_off")
        return off in self.rules

    def experts(self, kind: Kind, layer: int, projection: str, num_experts: int) -> set[int]:
        """Those that the rules of one kind name for a router."""
        everyone = tuple(range(num_experts))
        rules = (rule for rule in self.rules if rule.kind == kind and rule.covers(layer, projection))
        return {e for rule in rules for e in (everyone if rule.experts is None else rule.experts)}


def _rule(kind: Kind, experts: Iterable[int], layers: Iterable[int] | None, projections: Iterable[str] | None) -> Rule:
    return Rule(
        kind,
        tuple(sorted(set(experts))),
        None if layers is None else tuple(sorted(set(layers))),
        None if projections is None else tuple(projections),
    )


def _listed(noun: str, numbers: tuple[int, ...] | None) -> str:
    """ "expert 3", "layers 0-9, 12", "all experts"."""
    if numbers is None:
        return f"all {noun}s"
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    text = ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in spans)
    return f"{noun}{'s' if len(numbers) != 1 else ''} {text or 'none'}"
