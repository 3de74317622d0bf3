"""The quick sums are the scores of the resampled items themselves."""

from __future__ import annotations

import random

import numpy as np
import pytest

from molora.evaluation.bootstrap import draws, interval, resampled, statistics
from molora.evaluation.scores import score
from molora.tasks import Item

WORDS = ("asthma", "gout", "fever", "none", "ataxia")


def made_up(metric: str) -> tuple[list[str], list[Item]]:
    rng = random.Random(metric)
    join = {"rouge_l": " ", "set_f1": "; "}.get(metric)

    def text() -> str:
        return join.join(rng.choices(WORDS, k=rng.randint(1, 4))) if join else rng.choice(WORDS)

    answers = [text() for _ in range(25)]
    said = [answer if rng.random() < 0.4 else text() for answer in answers]
    return said, [Item("?", answer) for answer in answers]


@pytest.mark.parametrize("metric", ["rouge_l", "accuracy", "macro_f1", "set_f1"])
def test_a_resample_scores_as_its_items_do(metric: str) -> None:
    said, items = made_up(metric)
    found, drawn = statistics(metric, said, items), draws(len(items), 0, "task")
    assert found.score(found.added.sum(0)) == pytest.approx(score(metric, said, items))
    quick = resampled(found, drawn)
    assert quick.shape == (1000,)
    for resample in (0, 1, 500, 999):
        chosen = np.repeat(np.arange(len(items)), drawn[resample].astype(int))
        direct = score(metric, [said[at] for at in chosen], [items[at] for at in chosen])
        assert quick[resample] == pytest.approx(direct)


def test_macro_f1_of_a_resample_without_one_of_the_labels() -> None:
    items, said = [Item("?", "a"), Item("?", "b")], ["a", "a"]
    found = statistics("macro_f1", said, items)
    np.testing.assert_allclose(resampled(found, np.array([[2.0, 0.0], [1.0, 1.0]])), [100, 100 * (2 / 3) / 2])


def test_resamples_hold_as_many_items_and_depend_on_seed_and_task() -> None:
    drawn = draws(7, 0, "one")
    assert (drawn.sum(-1) == 7).all()
    np.testing.assert_array_equal(drawn, draws(7, 0, "one"))
    assert (drawn != draws(7, 0, "two")).any()
    assert (drawn != draws(7, 1, "one")).any()


def test_the_interval_is_about_two_standard_errors_wide() -> None:
    """400 items, half of them right: the standard error is 2.5."""
    items = [Item("?", "a")] * 400
    found = statistics("accuracy", ["a", "b"] * 200, items)
    low, high = interval(resampled(found, draws(400, 0, "task")))
    assert low == pytest.approx(50 - 1.96 * 2.5, abs=0.6)
    assert high == pytest.approx(50 + 1.96 * 2.5, abs=0.6)
