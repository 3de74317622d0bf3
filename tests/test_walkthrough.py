"""What the README finds out about expert 3 is what the demo model does. Numbers may differ a little between CPUs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import molora
from molora import analysis
from molora.atlas_analysis import load, task_shares
from molora.atlas_data import Atlas
from molora.effects import ablation, recorded_answer
from molora.trace import ANSWER

ROOT = Path(__file__).parents[1]
EXPERT = 3
WORDS = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


def test_where_it_works_and_what_its_absence_does() -> None:
    engine = molora.load("demo")
    question = [{"role": "user", "content": "What are the symptoms of asthma?"}]
    trace = engine.answer(question, repetition_penalty=1.15).trace
    shares = analysis.load(trace.select(tokens=trace.phase == ANSWER))  # [L, P, E]
    assert "has 11% of the answer's picks" in WORDS
    assert shares[..., EXPERT].mean() == pytest.approx(0.11, abs=0.01)
    by_layer = shares[..., EXPERT].mean(axis=1)  # [L]
    assert "layer 25, where every third pick is its own (33%)" in WORDS
    assert by_layer.argmax() == 25
    assert by_layer[25] == pytest.approx(0.33, abs=0.05)
    effects = [effect.mean for effect in ablation(engine, question, recorded_answer(trace), range(8))]
    assert "less likely by 0.024 nats on the mean; only expert 5 matters more (0.033)" in WORDS
    assert np.argsort(effects)[:2].tolist() == [5, EXPERT]
    assert effects[EXPERT] == pytest.approx(-0.024, abs=0.01)
    assert effects[5] == pytest.approx(-0.033, abs=0.01)
    assert int(np.argmax(effects)) == 6
    assert effects[6] == pytest.approx(0.026, abs=0.01)


def test_which_tasks_pick_it() -> None:
    atlas = Atlas.load(ROOT / "assets" / "atlas" / "demo" / "atlas.npz")
    beside = task_shares(atlas, "prompt")[:, EXPERT] - load(atlas, "prompt").mean(axis=(0, 1))[EXPERT]  # [G]
    most, least = int(beside.argmax()), int(beside.argmin())
    assert (atlas.tasks[most], atlas.tasks[least]) == ("abbreviation", "medquad_inheritance")
    assert f"abbreviations pick it most ({beside[most] * 100:.1f} points above the mean of tasks)" in WORDS
    assert f"questions of inheritance least ({-beside[least] * 100:.1f} points below)" in WORDS
