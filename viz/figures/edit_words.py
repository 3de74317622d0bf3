"""An edit of the routing in the reader's words: in English as the trace says it, in Chinese from the rules' data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from molora.trace import RoutingTrace
from viz.language import noted, spoken, t

_KINDS = {
    "drop": noted("without {experts}"),
    "reroute": noted("never picking {experts}"),
    "force": noted("always picking {experts}"),
    "alone": noted("all tokens to {experts} alone"),
    "uniform": noted("equal weights"),
    "attention_off": noted("without the attention LoRA"),
}


def edit_words(trace: RoutingTrace) -> str:
    """What was changed in the routing that the trace is of; "" if nothing was."""
    told = trace.meta.get("edit")
    rules = told.get("rules") if isinstance(told, dict) else None
    if spoken() == "en" or not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        return trace.edit
    try:
        return t("; ").join(rule_words(rule) for rule in rules)
    except (KeyError, TypeError):  # out of a file of anyone's
        return trace.edit


def one_rule(rule: Any) -> str:
    """A `molora.edits.Rule` in words."""
    return str(rule) if spoken() == "en" else rule_words(asdict(rule))


def rule_words(rule: Mapping[str, Any]) -> str:
    """One rule as data, `asdict` of a `molora.edits.Rule`. Raises KeyError or TypeError for other data."""
    said = t(_KINDS[rule["kind"]], experts=_listed(t("expert"), t("all experts"), rule.get("experts")))
    where = []
    if rule.get("layers") is not None:
        where.append(_listed(t("layer"), "", rule["layers"]))
    if rule.get("projections") is not None:
        where.append(", ".join(map(str, rule["projections"])))
    return said + (t(" ({where})", where=t("; ").join(where)) if where else "")


def _listed(noun: str, everything: str, numbers: Sequence[int] | None) -> str:
    if numbers is None:
        return everything
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return f"{noun} {', '.join(str(low) if low == high else f'{low}-{high}' for low, high in spans)}"
