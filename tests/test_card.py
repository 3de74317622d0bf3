from __future__ import annotations

import json
from pathlib import Path

from molora.card import model_card

DEMO = Path(__file__).parent.parent / "assets" / "demo"


def test_the_demo_card_says_what_its_training_measured() -> None:
    training = json.loads((DEMO / "training.json").read_text())
    card = (DEMO / "README.md").read_text()
    assert card == model_card(training), "made by the training command, not by hand"
    for name, task in training["tasks"].items():
        assert f"| {name} |" in card
        assert task["loss_after"] < task["loss_base"], "better than the base alone"


def test_the_demo_checkpoint_is_small() -> None:
    assert sum(path.stat().st_size for path in DEMO.iterdir()) < 30e6
    assert not list(DEMO.glob("*.bin"))
