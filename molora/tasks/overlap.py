"""What the two halves of a task share, though neither should know the other: concepts, prompts, near-duplicates.

Pure functions. An item's text is its prompt with its answer, compared in runs of words ("shingles"); what many training
items say (the words of the task itself, stock phrases of a site) is no sign of copying and is left out.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Literal, NamedTuple

from molora.tasks.task import Item, Split

SHINGLE_WORDS = 5
COMMON = 0.005
"""Shingles in more than this share of the training items count as the task's own words."""
COMMON_ITEMS = 5
"""A shingle in so few training items is not yet one of the task's own words, unless all of them have it."""
LEAST_SHINGLES = 8
"""Items with fewer shingles of their own are too short to be called near-duplicates."""
NEAR = 0.5
"""Near-duplicates have at least this part of the shorter one's own shingles in common."""


class Overlap(NamedTuple):
    kind: Literal["concept", "prompt", "near-duplicate"]
    train: int
    """Index in the training half"""
    test: int
    """Index in the test half"""
    share: float
    """Part of the shorter item's own shingles that the other has too; 1.0 for what is equal."""


class _Text(NamedTuple):
    known: set[str]
    """Its shingles that the test half has too"""
    size: int
    """How many shingles it has in all"""


def overlaps(split: Split, near: float = NEAR) -> list[Overlap]:
    """At most one for each training item: the first that applies of equal concept, equal prompt, near-duplicate.

    Capitals, punctuation and spacing make no difference.
    """
    index = _index(split.test)
    close = _near_duplicates(_texts(split.train, index), index, near)
    return sorted((close | _equal(split)).values(), key=lambda overlap: overlap.train)


def kept(split: Split, near: float = NEAR) -> list[int]:
    """Indices of the training items that share nothing with the test half.

    With fewer items, fewer phrases are common, so the search is repeated until it finds nothing.
    """
    index = _index(split.test)
    equal = _equal(split)
    left = {at: text for at, text in _texts(split.train, index).items() if at not in equal}
    while gone := _near_duplicates(left, index, near):
        left = {at: text for at, text in left.items() if at not in gone}
    return list(left)


def without_overlaps(split: Split, near: float = NEAR) -> Split:
    """The test half whole, and the training items that share nothing with it."""
    return Split([split.train[at] for at in kept(split, near)], split.test)


def concepts_across(splits: Sequence[Split]) -> list[str]:
    """Concepts that one of the tasks trains on and another tests, of tasks made from one source."""
    trained = {_normal(item.concept): item.concept for split in splits for item in split.train if item.concept}
    tested = {_normal(item.concept) for split in splits for item in split.test}
    return [concept for normal, concept in trained.items() if normal in tested]


def _equal(split: Split) -> dict[int, Overlap]:
    """Index of a training item -> the first test item of its concept or with its prompt."""
    concepts = {_normal(item.concept): at for at, item in reversed([*enumerate(split.test)]) if item.concept}
    prompts = {_normal(item.prompt): at for at, item in reversed([*enumerate(split.test)])}
    found = {}
    for at, item in enumerate(split.train):
        if item.concept and (test := concepts.get(_normal(item.concept))) is not None:
            found[at] = Overlap("concept", at, test, 1.0)
        elif (test := prompts.get(_normal(item.prompt))) is not None:
            found[at] = Overlap("prompt", at, test, 1.0)
    return found


def _near_duplicates(train: dict[int, _Text], index: dict[str, list[int]], near: float) -> dict[int, Overlap]:
    """Index of a training item -> the test item that is most like it."""
    spread = Counter(shingle for text in train.values() for shingle in text.known)
    limit = max(COMMON_ITEMS, COMMON * len(train))
    common = {shingle for shingle, count in spread.items() if count > limit or 1 < count == len(train)}
    sizes = Counter(at for shingle, having in index.items() if shingle not in common for at in having)
    found = {}
    for train_at, text in train.items():
        own = text.known - common
        size = text.size - (len(text.known) - len(own))
        both = Counter(test_at for shingle in own for test_at in index[shingle])
        shares = [
            (count / shorter, -test_at)
            for test_at, count in both.items()
            if (shorter := min(size, sizes[test_at])) >= LEAST_SHINGLES
        ]
        if shares and (best := max(shares))[0] >= near:
            found[train_at] = Overlap("near-duplicate", train_at, -best[1], best[0])
    return found


def _index(test: Sequence[Item]) -> dict[str, list[int]]:
    """Shingle -> the test items that have it."""
    index: dict[str, list[int]] = defaultdict(list)
    for at, item in enumerate(test):
        for shingle in _shingles(item):
            index[shingle].append(at)
    return dict(index)


def _texts(train: Sequence[Item], index: dict[str, list[int]]) -> dict[int, _Text]:
    each = enumerate(map(_shingles, train))
    return {at: _Text(shingles & index.keys(), len(shingles)) for at, shingles in each}


def _shingles(item: Item) -> set[str]:
    words = _words(f"{item.prompt}\n{item.answer}")
    return {" ".join(words[at : at + SHINGLE_WORDS]) for at in range(len(words) - SHINGLE_WORDS + 1)}


def _normal(text: str) -> str:
    return " ".join(_words(text))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
