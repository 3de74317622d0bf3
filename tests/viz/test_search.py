"""Words are found as they read, whatever tokens they were split into."""

from __future__ import annotations

import numpy as np
import pytest

from viz.search import Found, find, token_rows

TEXTS = [" Dia", "bet", "es", "", " and", " DIABETES", ".", "糖", "尿病", " a.b"]
ALL = np.arange(len(TEXTS))


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("diabetes", [0, 5]),
        ("betes", [1, 5]),
        ("s and", [2]),
        ("and", [4]),
        ("糖尿病", [7]),
        ("尿", [8]),
        ("a.b", [9]),
        (".", [6, 9]),
        ("axb", []),
        ("", []),
        ("  ", []),
        ("(", []),
    ],
)
def test_a_match_is_the_token_it_begins_in(query: str, rows: list[int]) -> None:
    assert token_rows(TEXTS, query).tolist() == rows


def test_two_matches_in_one_token_are_one() -> None:
    assert token_rows(["aa", "a"], "a").tolist() == [0, 1]
    assert token_rows([], "a").tolist() == []


def test_search_goes_on_back_and_round() -> None:
    assert find(TEXTS, ALL, "diabetes", None, 0) == Found(0, 1, 2)
    assert find(TEXTS, ALL, "diabetes", 0, 0) == Found(0, 1, 2)
    assert find(TEXTS, ALL, "diabetes", 0, 1) == Found(5, 2, 2)
    assert find(TEXTS, ALL, "diabetes", 5, 1) == Found(0, 1, 2)
    assert find(TEXTS, ALL, "diabetes", 0, -1) == Found(5, 2, 2)
    assert find(TEXTS, ALL, "diabetes", 3, -1) == Found(0, 1, 2)
    assert find(TEXTS, ALL, "diabetes", None, -1) == Found(5, 2, 2)
    assert find(TEXTS, ALL, "nowhere", 3, 1) is None


def test_only_the_rows_that_are_shown_are_searched() -> None:
    assert find(TEXTS, ALL[3:], "diabetes", None, 0) == Found(5, 1, 1)
    assert find(TEXTS, ALL[:0], "diabetes", None, 0) is None
