"""A run's summary in sentences that a person can quote, as plain text: escape them before they become HTML."""

from __future__ import annotations

from molora.summary import Judged, Summary
from viz.figures.style import visible

_EXPERTS = 16
"""At most so many loads are written out."""


def summary_words(summary: Summary | None, *, model: str = "", edit: str = "") -> list[str]:
    """Whole sentences; `edit`: what was changed in the routing, in words."""
    if summary is None:
        return ["No token was routed yet."]
    order = sorted(range(len(summary.load)), key=lambda n: -summary.load[n])
    named = sorted(order[:_EXPERTS])
    loads = ", ".join(f"{n}: {summary.load[n]:.1%}" for n in named)
    rest = f" (the {_EXPERTS} busiest of {len(order)})" if len(order) > _EXPERTS else ""
    template = summary.tokens - summary.prompt_tokens - summary.answer_tokens
    words = [f"Model: {model[:80]}."] if model else []
    words += [f"The routing was edited: {edit[:200]}."] if edit else []
    words += [
        f"Tokens counted: {summary.tokens} ({summary.prompt_tokens} of the prompt, {summary.answer_tokens} of the "
        f"answer, {template} of the chat template), each read by {summary.routers} routers that pick {summary.top_k} "
        f"of {len(summary.load)} experts.",
        f"Load per expert, as share of all picks{rest}: {loads}; an even share is {1 / len(summary.load):.1%}.",
        f"Imbalance: the busiest expert, {order[0]}, has {summary.imbalance:.2f} times the even share (1 is even); the "
        f"load's coefficient of variation is {summary.variation:.2f} (0 is even).",
        f"Within a single router the busiest expert takes {summary.peak:.1%} of the picks on average.",
        f"Mean entropy of the routers: {summary.entropy:.2f} of its maximum (0 is certain, 1 is uniform).",
    ]
    if summary.pair:
        low, high, share = summary.pair
        words.append(f"Most used pair: experts {low} and {high}, picked together in {share:.1%} of all decisions.")
    if summary.confident:
        words.append(f"Most confident tokens (lowest entropy): {_tokens(summary.confident)}.")
        words.append(f"Most torn tokens (highest entropy): {_tokens(summary.torn)}.")
    return words


def _tokens(judged: tuple[Judged, ...]) -> str:
    return ", ".join(f"“{visible(one.text)}” at row {one.row} ({one.entropy:.2f})" for one in judged)
