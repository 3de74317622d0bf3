"""Rules of an edit as plain data -> RoutingEdit: what a request or a file says is checked and bounded first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from molora.edits import Kind, RoutingEdit, Rule
from molora.errors import MoloraError

MAX_RULES = 64
_MOST = 4096
"""Numbers or names in one list; no model has more experts or layers."""
_MOST_CHARACTERS = 64


def read_edit(rules: object) -> RoutingEdit:
    """Reads what `RoutingEdit.to_dict()["rules"]` wrote, from JSON too; a key that is left out means all.

    Whether a model has what the rules name is for `RoutingEdit.check`. Raises MoloraError for anything else.
    """
    if not isinstance(rules, list) or len(rules) > MAX_RULES:
        raise MoloraError(
            f'An edit is a list of up to {MAX_RULES} rules like {{"kind": "drop", "experts": [3], "layers": [0, 1], '
            '"projections": ["up_proj"]}.'
        )
    return RoutingEdit(tuple(_rule(number, rule) for number, rule in enumerate(rules)))


def _rule(number: int, rule: Any) -> Rule:
    keys = ("kind", "experts", "layers", "projections")
    if not isinstance(rule, dict) or not set(rule) <= set(keys):
        raise MoloraError(f"Rule {number} of the edit must have the keys {', '.join(keys)}, and no others.")
    kinds = get_args(Kind)
    if rule.get("kind") not in kinds:
        raise MoloraError(f"Rule {number} of the edit needs a kind, one of {', '.join(kinds)}.")
    experts, layers = (_values(number, name, rule.get(name), int) for name in ("experts", "layers"))
    return Rule(rule["kind"], experts, layers, _values(number, "projections", rule.get("projections"), str))


def _values(number: int, name: str, values: Any, kind: type) -> Any:
    """Experts and layers ascend, each once, as everywhere in an edit."""
    if values is None:
        return None
    fits = isinstance(values, Sequence) and not isinstance(values, str) and 0 < len(values) <= _MOST
    if not fits or not all(type(value) is kind and _bounded(value) for value in values):
        what = "whole numbers" if kind is int else "names"
        raise MoloraError(f"Rule {number} of the edit: {name} must be a list of {what}, or left out for all of them.")
    return tuple(sorted(set(values))) if kind is int else tuple(dict.fromkeys(values))


def _bounded(value: Any) -> bool:
    return len(value) <= _MOST_CHARACTERS if isinstance(value, str) else 0 <= value < 2**31
