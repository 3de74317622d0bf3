"""Options and caps that depend on an item alone: other items make no difference, and every build draws the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from molora.tasks.task import Item, rng_of, shuffled


def options(answer: str, others: Iterable[str], key: str, count: int = 4) -> tuple[str, ...]:
    """The answer among `count - 1` of the others, or as many as there are, in an order that `key` gives."""
    rest = [other for other in dict.fromkeys(others) if other.lower() != answer.lower()]
    picked = rng_of(f"pick {key}").sample(rest, min(count - 1, len(rest)))
    return tuple(shuffled([answer, *picked], f"order {key}"))


def thinned(items: Iterable[Item], each: int) -> list[Item]:
    """The first `each` items of every concept."""
    seen: Counter[str] = Counter()
    kept = []
    for item in items:
        seen[item.concept] += 1
        if seen[item.concept] <= each:
            kept.append(item)
    return kept


def capped(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` items, in their order: whole concepts as far as that goes."""
    ranks = {concept: rng_of(f"cap {concept}").random() for concept in {item.concept for item in items}}
    kept = sorted(range(len(items)), key=lambda at: (ranks[items[at].concept], at))[:most]
    return [items[at] for at in sorted(kept)]
