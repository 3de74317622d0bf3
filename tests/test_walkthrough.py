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
PICTURED = (
    "The signs and symptoms of asthma vary depending on whether you have it in your chest or other parts of your body, "
    "how severe they are, and what kind of asthma is present (inflamation). The most common symptom of asthma is "
    "wheezing that occurs when air tries to pass through small airways but can't because there's too much mucus "
    "clogging them up. Other symptoms include: Shortness of breath When someone has asthma, their lungs cannot expand "
    "enough for oxygen to reach all areas of the body. This makes breathing difficult. Asthma attacks occur when an "
    "attack happens during sleep. In some people with asthma, this may happen at night while sleeping."
)
"""The demo's answer, given here, so that no CPU's rounding makes another one of it"""
OTHER = (
    "The signs and symptoms of asthma vary depending on whether you have it in your lungs or other parts of your body, "
    "such as:\n- wheezing (chest pain)\n- coughing up mucus\n- shortness of breath\n- chest tightness\n- fatigue\n"
    "- muscle weakness\n- breathing problems that include difficulty catching your breath\n- rapid heartbeat\n"
    "- swelling of the airways called bronchospasm"
)
"""What it says where sums are rounded otherwise"""
THIRD = OTHER[: OTHER.index("\n- rapid")] + (
    ", rapid breathing, heavy breathing, slow breathing, deep breathing, shallow breathing, and/or hyperventilation\n"
    "- respiratory infections\n- nasal congestion"
)
"""And where in yet another way"""
WORDS = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


@pytest.mark.parametrize(
    ("answer", "needed", "effect", "words"),
    [
        (PICTURED, 4, -0.018, "without expert 4 less likely by 0.018"),
        (OTHER, 0, -0.037, "expert 0 mattered most, by 0.037"),
        (THIRD, 0, -0.024, "and by 0.024 nats a token"),
    ],
)
def test_where_it_works_and_what_its_absence_does(answer: str, needed: int, effect: float, words: str) -> None:
    engine = molora.load("demo")
    question = [{"role": "user", "content": "What are the symptoms of asthma?"}]
    ids = engine.tokenizer(answer, add_special_tokens=False)["input_ids"]
    trace = engine.answer(question, max_new_tokens=1, begun=ids).trace
    shares = analysis.load(trace.select(tokens=trace.phase == ANSWER))  # [L, P, E]
    assert "has 16% of the answer's picks" in WORDS
    assert shares[..., EXPERT].mean() == pytest.approx(0.16, abs=0.01)
    assert shares.mean(axis=(0, 1)).argmax() == EXPERT, "the most of all"
    by_layer = shares[..., EXPERT].mean(axis=1)  # [L]
    assert "in layers 7 and 12, where more than every third pick is its own" in WORDS
    assert set(np.argsort(by_layer)[-2:]) == {7, 12}
    assert by_layer[[7, 12]] == pytest.approx(0.37, abs=0.03)
    effects = [found.mean for found in ablation(engine, question, ids, range(8))]
    assert words in WORDS
    assert int(np.argmin(effects)) == needed
    assert effects[needed] == pytest.approx(effect, abs=0.005)
    if answer == PICTURED:
        assert "likelier by 0.004 nats on the mean" in WORDS
        assert effects[EXPERT] == pytest.approx(0.004, abs=0.005)


def test_which_tasks_pick_it() -> None:
    atlas = Atlas.load(ROOT / "assets" / "atlas" / "demo" / "atlas.npz")
    beside = task_shares(atlas, "prompt")[:, EXPERT] - load(atlas, "prompt").mean(axis=(0, 1))[EXPERT]  # [G]
    most, least = int(beside.argmax()), int(beside.argmin())
    assert (atlas.tasks[most], atlas.tasks[least]) == ("uniprot_inheritance", "lab_flag")
    points = f"{beside[most] * 100:.1f} points above the mean of tasks"
    assert f"the inheritance of diseases picks it most ({points})" in WORDS
    assert f"laboratory values least ({-beside[least] * 100:.1f} points below)" in WORDS
