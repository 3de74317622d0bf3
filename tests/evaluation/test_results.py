from __future__ import annotations

import json

import pytest

from tests.results_made import ROUTING, made_results


def test_means_are_over_tasks_and_families() -> None:
    found = made_results()
    assert json.loads(json.dumps(found)) == found
    scores = {name: task["systems"]["base"]["score"] for name, task in found["tasks"].items()}
    assert scores == {"causes": 50, "sections": 50, "trials": 50}
    assert found["tasks"]["trials"].items() >= {"family": "classification", "metric": "accuracy", "n": 20}.items()
    assert found["tasks"]["trials"]["source"] == "The book of trials"
    assert found["macro"]["molora"] == {"score": 100, "low": 100, "high": 100}
    assert found["macro"]["base"]["score"] == 50
    assert sum(part["tasks"] for part in found["families"].values()) == 3
    one, all_three = (part["systems"]["base"] for part in (found["tasks"]["trials"], {"systems": found["macro"]}))
    assert all_three["high"] - all_three["low"] < one["high"] - one["low"], "a mean of tasks is surer than one of them"


def test_differences_are_paired_with_the_subject() -> None:
    found = made_results()
    assert list(found["paired"]) == ["molora-base"]
    difference, base = found["paired"]["molora-base"], found["macro"]["base"]
    assert difference["difference"] == 50
    assert difference["low"] == pytest.approx(100 - base["high"]), "the same resamples"
    assert difference["high"] == pytest.approx(100 - base["low"])


def test_parameters_and_routing_are_passed_on() -> None:
    found = made_results(ROUTING)
    assert (found["trained_parameters"], found["total_parameters"]) == (2_400_000, 137_000_000)
    assert found["routing"] == ROUTING
    assert made_results()["routing"] is None
