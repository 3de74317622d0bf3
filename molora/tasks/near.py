"""Which items are about the same thing: equal names, and texts that share most of their words.

What `families` puts together falls to one half of a split, so that no near-copy of a test item is trained on.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import ceil

_WORD = re.compile(r"[^\W\d_]{2,}")

_EMPTY = frozenset(
    re.findall(
        r"\w+",
        """a an and as at by for from in into is of on or the to with without type form susceptibility
        autosomal dominant recessive linked ii iii iv vi vii viii ix xi xii first second third fourth fifth st nd rd th
        left right unilateral bilateral mild moderate severe unspecified nos nec""",
    )
)
"""Words that tell apart only members of one family, such as "type II" or "of the left"."""


@lru_cache(maxsize=1 << 16)
def words(text: str) -> frozenset[str]:
    """The words that say what a text is about: small letters, singular, without numbers, grades and sides."""
    return frozenset(_singular(word) for word in _WORD.findall(text.lower()) if word not in _EMPTY)


def plain(name: str) -> str:
    """A name without the order of its words and what `words` leaves out; the name itself if that is all of it."""
    return " ".join(sorted(words(name))) or " ".join(name.lower().split())


def alike(texts: Sequence[frozenset[str]], least: float) -> Iterator[tuple[int, int]]:
    """Every pair of texts with intersection / union >= `least`, earlier index first; empty texts are like none."""
    rarity = Counter(word for text in texts for word in text)
    seen: dict[str, list[int]] = defaultdict(list)  # word -> earlier texts that have it among their rarest
    for at, text in enumerate(texts):
        # Prefix filter: two texts that are alike share one of their |text| - ceil(least * |text|) + 1 rarest words.
        ranked = sorted(text, key=lambda word: (rarity[word], word))
        rarest = ranked[: len(text) - ceil(least * len(text) - 1e-9) + 1]
        for other in sorted({other for word in rarest for other in seen[word]}):
            size = len(texts[other])
            if least * len(text) <= size <= len(text) / least:
                shared = len(text & texts[other])
                if shared >= least * (len(text) + size - shared):
                    yield other, at
        for word in rarest:
            seen[word].append(at)


def families(names: Sequence[str], texts: Sequence[str] | None = None, least: float = 0.7) -> list[str]:
    """The concept of each item: the first name of its family. Equal in `plain`, alike as names or alike as texts."""
    head = list(range(len(names)))

    def find(at: int) -> int:
        while head[at] != at:
            head[at] = head[head[at]]
            at = head[at]
        return at

    def join(one: int, other: int) -> None:
        low, high = sorted((find(one), find(other)))
        head[high] = low

    first: dict[str, int] = {}
    for at, name in enumerate(names):
        join(at, first.setdefault(plain(name), at))
    for written in (names, *([texts] if texts else ())):
        for one, other in alike([words(text) for text in written], least):
            join(one, other)
    return [names[find(at)] for at in range(len(names))]


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word
