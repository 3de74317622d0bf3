"""What the README finds out about expert 0 is what the demo model does. Numbers may differ a little between CPUs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import molora
from molora import analysis
from molora.atlas.analysis import load, task_shares
from molora.atlas.data import Atlas
from molora.effects import ablation
from molora.trace import ANSWER

ROOT = Path(__file__).parents[1]
EXPERT = 0
NEEDED = 5
PICTURED = (
    "The signs and symptoms of asthma vary from person to person, but may include: Shortness of breath or feeling "
    "short-limbs (dizziness)\nWheezing (whistling sound when breathing in)\nShortness of breath or feeling "
    "lightheaded\nChest pain or tightness\nTrouble sleeping\nA wheeze that worsens during physical activity\n"
    "Difficulty swallowing or choking\nPersistent coughing or wheezing at night"
)
"""The demo's answer, given here, so that no CPU's rounding makes another one of it"""
OTHER = PICTURED[: PICTURED.index("\nDifficulty")]
"""What it says where sums are rounded otherwise"""
WORDS = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


@pytest.mark.parametrize(
    ("answer", "effect", "words"),
    [(PICTURED, 0.015, "even share, 0.015"), (OTHER, 0.018, "(0.018 in the other course)")],
)
def test_where_it_works_and_what_its_absence_does(answer: str, effect: float, words: str) -> None:
    engine = molora.load("demo")
    question = [{"role": "user", "content": "What are the symptoms of asthma?"}]
    ids = engine.tokenizer(answer, add_special_tokens=False)["input_ids"]
    trace = engine.answer(question, max_new_tokens=1, begun=ids).trace
    shares = analysis.load(trace.select(tokens=trace.phase == ANSWER))  # [L, P, E]
    by_expert = shares.mean(axis=(0, 1))  # [E]
    assert "has 15% of the answer's picks" in WORDS
    assert by_expert[EXPERT] == pytest.approx(0.15, abs=0.01)
    assert by_expert.argmax() == EXPERT, "the most of all"
    by_layer = shares[..., EXPERT].mean(axis=1)  # [L]
    assert "in layers 21 and 6, where about every third pick is its own" in WORDS
    assert set(np.argsort(by_layer)[-2:]) == {6, 21}
    assert by_layer[[6, 21]] == pytest.approx(1 / 3, abs=0.03)
    effects = [found.mean for found in ablation(engine, question, ids, range(8))]
    assert f"without expert {NEEDED}, which is picked less than its even share" in WORDS
    assert by_expert[NEEDED] < 1 / 8
    assert int(np.argmin(effects)) == NEEDED
    assert words in WORDS
    assert effects[NEEDED] == pytest.approx(-effect, abs=0.004)
    assert abs(effects[EXPERT]) < 0.008
    assert effects[7] > 0.015, "without it the answer even becomes likelier"


def test_which_tasks_pick_it() -> None:
    atlas = Atlas.load(ROOT / "assets" / "atlas" / "demo" / "atlas.npz")
    beside = task_shares(atlas, "prompt")[:, EXPERT] - load(atlas, "prompt").mean(axis=(0, 1))[EXPERT]  # [G]
    most, least = int(beside.argmax()), int(beside.argmin())
    assert (atlas.tasks[most], atlas.tasks[least]) == ("medquad_inheritance", "icd_code")
    points = f"{beside[most] * 100:.1f} points above the mean of tasks"
    assert f"questions about the inheritance of diseases pick it most ({points})" in WORDS
    assert f"ICD-10 codes least ({-beside[least] * 100:.1f} points below)" in WORDS
