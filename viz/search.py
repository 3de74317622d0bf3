"""Finds words in a trace's tokens, as they read when joined: a word that is split over tokens is found. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_CHARACTERS = 100


class Found(NamedTuple):
    row: int
    """The token in which the match begins"""
    number: int
    """Of the match, from 1 on"""
    matches: int


def token_rows(texts: Sequence[str], query: str) -> NDArray[np.int64]:
    """Places in `texts` [T] where a match of `query` begins, each once, ascending; capitals do not matter."""
    if not query.strip() or not texts:
        return np.zeros(0, np.int64)
    ends = np.cumsum([len(text) for text in texts])
    starts = [match.start() for match in re.finditer(re.escape(query), "".join(texts), re.IGNORECASE)]
    return np.unique(np.searchsorted(ends, starts, side="right")).astype(np.int64)


def find(texts: Sequence[str], rows: NDArray[np.int64], query: str, at: int | None, step: int) -> Found | None:
    """The next match after row `at` (step 1), the one before it (-1), or the first from it on (0); None without any.

    rows: which of all rows are searched, ascending [R]; texts: of all rows [T]. Past the end it begins again; without
    `at` it begins there.
    """
    matches = rows[token_rows([texts[row] for row in rows.tolist()], query[:MAX_CHARACTERS])]
    if not len(matches):
        return None
    if at is None:
        place = -1 if step < 0 else 0
    elif step < 0:
        place = int(np.searchsorted(matches, at)) - 1
    else:
        place = int(np.searchsorted(matches, at, side="right" if step else "left"))
    place %= len(matches)
    return Found(int(matches[place]), place + 1, len(matches))
