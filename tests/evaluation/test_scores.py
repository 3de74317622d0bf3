from __future__ import annotations

import sys

import pytest

from molora.errors import MoloraError
from molora.evaluation.scores import accuracy, macro_f1, mentions, rouge_l, score, set_f1
from molora.tasks import Item


def items(*answers: str) -> list[Item]:
    return [Item("?", answer) for answer in answers]


def test_rouge_l_is_the_f1_of_the_longest_common_subsequence() -> None:
    """The longest common subsequence "a b d" has 3 words of 4 and of 3: F1 = 2 * 3 / 7."""
    assert rouge_l(["a b, d"], items("A b c d")) == pytest.approx(100 * 6 / 7)
    assert rouge_l(["", "same words"], items("nothing", "Same words.")) == pytest.approx(50)


def test_accuracy_ignores_case_and_spacing() -> None:
    assert accuracy(["Yes", " no ", "maybe", "no"], items("yes", "no", "no", "yes")) == 50


def test_macro_f1_counts_every_label_alike() -> None:
    """ "a": 3 right of 3, 4 claimed, 6/7; "b": none of 1, 0. "c", never an answer, is no label."""
    assert macro_f1(["a", "a", "a", "a"], items("a", "a", "a", "b")) == pytest.approx(100 * 6 / 7 / 2)
    assert macro_f1(["a", "c"], items("a", "b")) == pytest.approx(50)


def test_set_f1_is_micro_f1_of_mentions() -> None:
    """2 mentions right of 3 and of 4: F1 = 4 / 7."""
    assert set_f1(["Asthma; a  fever", "gout; ataxia"], items("asthma; a fever", "lupus")) == pytest.approx(100 * 4 / 7)


def test_an_empty_set_is_right_when_it_should_be_empty() -> None:
    assert set_f1(["none", ""], items("none", "none")) == 100
    assert set_f1(["asthma"], items("none")) == 0
    assert mentions(" ; None; Asthma;asthma ") == {"asthma"}


def test_a_missing_library_is_named_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rouge_score", None)
    monkeypatch.delitem(sys.modules, "rouge_score.rouge_scorer", raising=False)
    with pytest.raises(MoloraError, match=r"rouge_score.*pip install --group eval"):
        score("rouge_l", ["a"], items("a"))
