"""Mutual information, task recovery and load against cases known by hand and against plain loops."""

from __future__ import annotations

import json
from math import log, sqrt

import numpy as np
import pytest

from molora.atlas.analysis import (
    dead_experts,
    information,
    load,
    normalised_mutual_information,
    place,
    recovery,
    report,
    similarity,
    task_shares,
)
from tests.atlas.test_atlas_data import tiny
from tests.fake_atlas import fake_atlas


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([[5, 5], [5, 5]], 0),  # the expert says nothing
        ([[1, 3], [2, 6]], 0),  # nor where one task is larger
        ([[7, 0], [0, 7]], 1),  # one expert a task
        ([[7, 0, 0], [0, 2, 0], [0, 0, 9]], 1),
        ([[4, 0], [4, 0]], 0),  # one expert for all
        ([[4, 4]], 0),  # one task
        ([[0, 0], [0, 0]], 0),
        ([[2, 0], [2, 0], [0, 2], [0, 2]], log(2) / sqrt(log(4) * log(2))),  # two tasks an expert
        ([[3, 1], [1, 3]], (2 * log(2) + 0.75 * log(3 / 8) + 0.25 * log(1 / 8)) / log(2)),
    ],
)
def test_mutual_information_by_hand(counts: list[list[int]], expected: float) -> None:
    assert normalised_mutual_information(np.array(counts)) == pytest.approx(expected, abs=1e-12)


def test_mutual_information_takes_any_leading_axes() -> None:
    counts = np.random.default_rng(0).integers(0, 9, (3, 2, 4, 5))
    together = normalised_mutual_information(counts)
    assert together.shape == (3, 2)
    for at in np.ndindex(3, 2):
        assert together[at] == pytest.approx(float(normalised_mutual_information(counts[at])))


def test_information_stands_out_of_shuffled_labels_only_where_tasks_differ() -> None:
    known = information(fake_atlas(preference=0.5), "prompt")
    assert (known.nmi > known.shuffled_max).all()
    none = information(fake_atlas(preference=0), "prompt")
    assert abs(none.nmi.mean() - none.shuffled_mean.mean()) < 0.02
    assert (none.shuffled_mean <= none.shuffled_max).all()
    assert known.nmi.shape == (4, 3)


def test_labels_are_shuffled_over_prompts_not_over_picks() -> None:
    """Two prompts, each with an expert of its own: however they are labelled, the label tells the expert."""
    atlas = tiny([[[9, 0], [9, 0]], [[0, 9], [0, 9]]], [0, 1])
    assert information(atlas).shuffled_mean.item() == pytest.approx(1)


def test_information_keeps_prompt_and_answer_apart() -> None:
    atlas = tiny([[[9, 0], [5, 5]], [[0, 9], [5, 5]]], [0, 1])
    assert information(atlas, "prompt").nmi.item() == pytest.approx(1)
    assert information(atlas, "answer").nmi.item() == 0
    assert 0 < information(atlas, "both").nmi.item() < 1


def test_recovery_is_sure_for_tasks_apart_and_chance_for_tasks_alike() -> None:
    told = recovery(fake_atlas(preference=1), "prompt")
    assert (told.accuracy, told.chance, told.prompts) == (1, 0.25, 20)
    assert told.by_task.tolist() == [1, 1, 1, 1]
    alike = [recovery(fake_atlas(preference=0, prompts=20, seed=seed), "both").accuracy for seed in range(3)]
    assert sum(alike) / 3 < 0.4


def test_a_prompt_does_not_vouch_for_itself() -> None:
    """Each task's two prompts point opposite ways: the one left is never near the one taken out."""
    atlas = tiny([[[9, 1], [0, 0]], [[1, 9], [0, 0]], [[9, 1], [0, 0]], [[1, 9], [0, 0]]], [0, 0, 1, 1])
    assert recovery(atlas, "prompt").accuracy == 0


def test_what_has_no_routing_or_no_fellow_is_not_told() -> None:
    picks = [[[9, 1], [0, 0]], [[8, 2], [0, 0]], [[1, 9], [0, 1]], [[1, 9], [0, 1]], [[5, 5], [1, 0]]]
    told = recovery(tiny(picks, [0, 0, 1, 1, 2]), "prompt")
    assert told.prompts == 4
    assert told.by_task[:2].tolist() == [1, 1]
    assert np.isnan(told.by_task[2])
    silent = recovery(tiny([[[9, 1], [0, 0]]] * 2, [0, 0]), "answer")
    assert silent.prompts == 0
    assert np.isnan(silent.accuracy)


def test_similarity_by_hand() -> None:
    centroids = np.array([[1.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(similarity(np.array([0.9, 0.1]), centroids), [1, -1])
    np.testing.assert_allclose(similarity(np.array([0.5, 0.5]), centroids), [0, 0])
    np.testing.assert_allclose(similarity(np.array([1.0, 1.0]), centroids), [0, 0], atol=1e-12)


def test_a_prompt_of_a_task_sits_nearest_to_it() -> None:
    atlas, other = fake_atlas(), fake_atlas(seed=1)
    for row, label in enumerate(other.labels):
        near = place(other.profiles("prompt")[row], atlas, "prompt")
        assert near.argmax() == label
        assert (np.abs(near) <= 1).all()
    assert np.isnan(place(np.full((4, 3, 8), np.nan), atlas, "prompt")).all()
    assert np.isnan(place(np.full((2, 3, 8), 1 / 8), atlas, "prompt")).all(), "another model's routing has no place"


def test_load_weighs_tasks_alike_and_finds_the_dead() -> None:
    atlas = tiny([[[90, 10, 0], [0, 0, 0]], [[0, 1, 0], [0, 0, 0]]], [0, 1])
    np.testing.assert_allclose(load(atlas)[0, 0], [0.45, 0.55, 0])
    np.testing.assert_allclose(task_shares(atlas), [[0.9, 0.1, 0.0], [0.0, 1.0, 0.0]])
    assert dead_experts(atlas) == [(0, "mlp", 2, 0.0)]
    assert not dead_experts(fake_atlas())


def test_the_report_is_json_with_the_keys_that_were_promised() -> None:
    said = json.loads(json.dumps(report(fake_atlas()), allow_nan=False))
    assert said["nmi"] == said["parts"]["prompt"]["nmi"] > said["nmi_shuffled_max"] > said["nmi_shuffled"]
    assert said["task_recovery"] == 1 > said["task_recovery_chance"] == 0.25
    assert len(said["parts"]["answer"]["nmi_by_layer"]["up_proj"]) == 4
    assert said["tasks"]["find"] == {"family": "extraction", "prompts": 5}
    assert np.shape(said["load"]["gate_proj"]) == (4, 8)
    assert said["dead_experts"] == []
    assert said["dead_below"] == pytest.approx(0.0125)
