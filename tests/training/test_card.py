from __future__ import annotations

import json
from pathlib import Path

from molora.report import filled
from molora.training.card import model_card

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "assets" / "demo"
RESULTS = ROOT / "assets" / "results.json"


def with_results(text: str) -> str:
    """With the tables of the suite, once it has been run on the shipped adapter."""
    return filled(text, json.loads(RESULTS.read_text())) if RESULTS.exists() else text


def test_the_demo_card_says_what_its_training_and_evaluation_measured() -> None:
    training = json.loads((DEMO / "training.json").read_text())
    card = (DEMO / "README.md").read_text()
    assert card == with_results(model_card(training)), "made by the commands, not by hand"
    for name, task in training["tasks"].items():
        assert f"| {name} |" in card
        assert task["loss_after"] < task["loss_base"], "better than the base alone"


def test_shares_that_most_tasks_have_are_said_once() -> None:
    training = json.loads((DEMO / "training.json").read_text(encoding="utf-8"))
    tasks = training["tasks"]
    for name, task in tasks.items():
        task["share"] = 0.3 if name == "triage" else 1.0
    assert f"| shares of the sequences | 1 for each of {len(tasks) - 1} tasks; triage 0.3 |" in model_card(training)
    for task in tasks.values():
        task["share"] = 1.0
    assert f"| the same for each of the {len(tasks)} tasks |" in model_card(training)
    training["tasks"] = {"triage": tasks["triage"]}
    assert "| shares of the sequences | triage 1 |" in model_card(training)


def test_the_readme_tells_the_results() -> None:
    readme = (ROOT / "README.md").read_text()
    assert readme == with_results(readme), "run python -m molora.report assets/results.json README.md"


def test_the_demo_checkpoint_is_small() -> None:
    assert sum(path.stat().st_size for path in DEMO.glob("*.safetensors")) < 30e6
