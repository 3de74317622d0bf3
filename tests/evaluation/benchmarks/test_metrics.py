from __future__ import annotations

import itertools

import pytest

from molora.evaluation.benchmarks import metrics

LABELS = [("a", "a"), ("a", "b"), ("b", "b"), ("b", "?"), ("b", "b"), ("c", "a")]
"""F1: a 2*1/(2+2) = 1/2, b 2*2/(3+3) = 2/3, c 0, "?" 0"""


def test_set_f1_counts_over_all_questions() -> None:
    pairs = [({"x", "y"}, {"x"}), ({"z"}, {"q", "r"}), (set[str](), set[str]())]
    assert metrics.set_f1(pairs) == pytest.approx(2 * 1 / (3 + 3))
    assert metrics.set_f1([({"x"}, {"y"})]) == metrics.set_f1([(set[str](), set[str]())]) == 0


def test_f1_of_labels() -> None:
    assert metrics.macro_f1(LABELS) == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    assert metrics.macro_f1_reference(LABELS) == pytest.approx((1 / 2 + 2 / 3 + 0 + 0) / 4)
    assert metrics.weighted_f1(LABELS) == pytest.approx((2 / 2 + 3 * 2 / 3 + 0) / 6)
    assert metrics.micro_f1(LABELS) == pytest.approx(3 / 6)


def test_rouge_l_is_of_characters_and_of_tokens() -> None:
    assert metrics.rouge_l("多喝 温水", "多喝水") == pytest.approx(2 * 3 / (4 + 3))
    assert metrics.rouge_l("CT", "CTA") == pytest.approx(2 * 2 / (2 + 3))
    assert metrics.rouge_l_reference("做CT检查", "做CTA检查") == pytest.approx(3 / 4, abs=1e-6)
    assert metrics.rouge_l("", "") == 1
    assert metrics.rouge_l("无", "") == 0
    assert metrics.rouge_l_reference("", "无。") == pytest.approx(1, abs=1e-6)


def test_basic_tokens() -> None:
    assert metrics.basic_tokens("体温37.5℃，É b") == ["体", "温", "37", ".", "5℃", "，", "e", "b"]


@pytest.mark.parametrize("a", ["", "a", "abc", "aabca", "bca" * 30])
def test_lcs_length_agrees_with_the_definition(a: str) -> None:
    for b in ("", "b", "cab", "abcab"):
        longest = max(
            len(part)
            for n in range(len(b) + 1)
            for part in itertools.combinations(b, n)
            if (rest := iter(a)) and all(char in rest for char in part)
        )
        assert metrics.lcs_length(a, b) == metrics.lcs_length(b, a) == longest
