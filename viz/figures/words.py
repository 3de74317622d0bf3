"""A run's summary in sentences that a person can quote, as plain text: escape them before they become HTML."""

from __future__ import annotations

from molora.summary import Judged, Summary
from viz.figures.style import visible
from viz.language import noted, t

_EXPERTS = 16
"""At most so many loads are written out."""


def summary_words(summary: Summary | None, *, model: str = "", edit: str = "") -> list[str]:
    """Whole sentences; `edit`: what was changed in the routing, in words."""
    if summary is None:
        return [t("No token was routed yet.")]
    order = sorted(range(len(summary.load)), key=lambda n: -summary.load[n])
    named = sorted(order[:_EXPERTS])
    loads = ", ".join(f"{n}: {summary.load[n]:.1%}" for n in named)
    many = len(order) > _EXPERTS
    rest = t(" (the {most} busiest of {count})", most=_EXPERTS, count=len(order)) if many else ""
    template = summary.tokens - summary.prompt_tokens - summary.answer_tokens
    words = [t("Model: {model}.", model=model[:80])] if model else []
    words += [t("The routing was edited: {edit}.", edit=edit[:200])] if edit else []
    words += [
        t(
            "Tokens counted: {tokens} ({prompt} of the prompt, {answer} of the answer, {template} of the chat "
            "template), each read by {routers} routers that pick {k} of {experts} experts.",
            tokens=summary.tokens,
            prompt=summary.prompt_tokens,
            answer=summary.answer_tokens,
            template=template,
            routers=summary.routers,
            k=summary.top_k,
            experts=len(summary.load),
        ),
        t(
            "Load per expert, as share of all picks{rest}: {loads}; an even share is {even:.1%}.",
            rest=rest,
            loads=loads,
            even=1 / len(summary.load),
        ),
        t(
            "Imbalance: the busiest expert, {expert}, has {times:.2f} times the even share (1 is even); the load's "
            "coefficient of variation is {variation:.2f} (0 is even).",
            expert=order[0],
            times=summary.imbalance,
            variation=summary.variation,
        ),
        t("Within a single router the busiest expert takes {peak:.1%} of the picks on average.", peak=summary.peak),
        t(
            "Mean entropy of the routers: {entropy:.2f} of its maximum (0 is certain, 1 is uniform).",
            entropy=summary.entropy,
        ),
    ]
    if summary.pair:
        low, high, share = summary.pair
        pair = noted("Most used pair: experts {low} and {high}, picked together in {share:.1%} of all decisions.")
        words.append(t(pair, low=low, high=high, share=share))
    if summary.confident:
        sure, torn = _tokens(summary.confident), _tokens(summary.torn)
        words.append(t("Most confident tokens (lowest entropy): {tokens}.", tokens=sure))
        words.append(t("Most torn tokens (highest entropy): {tokens}.", tokens=torn))
    return words


def _tokens(judged: tuple[Judged, ...]) -> str:
    return ", ".join(
        t("“{text}” at row {row} ({entropy:.2f})", text=visible(one.text), row=one.row, entropy=one.entropy)
        for one in judged
    )
