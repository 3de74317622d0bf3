"""What the README finds out about expert 3 is what the demo model does. Numbers may differ a little between CPUs."""

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
EXPERT = 3
PICTURED = (
    "The signs and symptoms of asthma vary from person to person, but they can include: Shortness of breath (dyspnea) "
    "Chest tightness or pain in the chest area (heart failure), coughing, wheezing, shortness of breath, rapid "
    "breathing, difficulty speaking, and/or trouble swallowing. In some people with asthma, these symptoms may be "
    "present for many years before their condition worsens. Asthma attacks occur when airways become inflamed due to "
    "an allergic reaction. The most common cause is pollen exposure during childhood. Other factors that increase risk "
    "of asthma attack also contribute to its severity. For example, smoking increases the chance of developing asthma; "
    "however, it does not always lead to severe episodes."
)
"""The demo's answer, given here, so that no CPU's rounding makes another one of it"""
OTHER = (
    "The signs and symptoms of asthma vary from person to person, but they can include: Shortness of breath (dyspnea) "
    "Chest tightness or pain in the chest The wheezing sound may be heard when you breathe out or inhaling The "
    "shortness of breath is often worse during exercise or at night When someone has an attack of asthma, it's "
    "important for them to take steps to prevent another attack by keeping their home clean and well-ventilated. If "
    "your child has asthma, make sure that he/she wears his/her inhaler every day. You should also talk with your "
    "doctor about how long each step will last before taking medicine again."
)
"""What it says where sums are rounded otherwise"""
WORDS = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


@pytest.mark.parametrize(("answer", "effect"), [(PICTURED, -0.024), (OTHER, 0.001)])
def test_where_it_works_and_what_its_absence_does(answer: str, effect: float) -> None:
    engine = molora.load("demo")
    question = [{"role": "user", "content": "What are the symptoms of asthma?"}]
    ids = engine.tokenizer(answer, add_special_tokens=False)["input_ids"]
    trace = engine.answer(question, max_new_tokens=1, begun=ids).trace
    shares = analysis.load(trace.select(tokens=trace.phase == ANSWER))  # [L, P, E]
    assert "has 11% of the answer's picks" in WORDS
    assert shares[..., EXPERT].mean() == pytest.approx(0.11, abs=0.01)
    by_layer = shares[..., EXPERT].mean(axis=1)  # [L]
    assert "layer 25, where about every third pick is its own" in WORDS
    assert by_layer.argmax() == 25
    assert by_layer[25] == pytest.approx(0.31, abs=0.05)
    effects = [found.mean for found in ablation(engine, question, ids, range(8))]
    assert "Expert 5 matters most: without it a token of the answer is less likely by about 0.03 nats" in WORDS
    assert int(np.argmin(effects)) == 5
    assert effects[5] == pytest.approx(-0.032, abs=0.005)
    assert f"{abs(effect)}" in WORDS
    assert effects[EXPERT] == pytest.approx(effect, abs=0.005)


def test_which_tasks_pick_it() -> None:
    atlas = Atlas.load(ROOT / "assets" / "atlas" / "demo" / "atlas.npz")
    beside = task_shares(atlas, "prompt")[:, EXPERT] - load(atlas, "prompt").mean(axis=(0, 1))[EXPERT]  # [G]
    most, least = int(beside.argmax()), int(beside.argmin())
    assert (atlas.tasks[most], atlas.tasks[least]) == ("abbreviation", "medquad_inheritance")
    assert f"abbreviations pick it most ({beside[most] * 100:.1f} points above the mean of tasks)" in WORDS
    assert f"questions of inheritance least ({-beside[least] * 100:.1f} points below)" in WORDS
