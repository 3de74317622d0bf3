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
    assert "layer 25, where about every third pick is its own" in WORDS
    assert by_layer.argmax() == 25
    assert by_layer[25] == pytest.approx(0.31, abs=0.06)
    effects = [effect.mean for effect in ablation(engine, question, recorded_answer(trace), range(8))]
    assert "Expert 5 matters most: without it a token of the answer is less likely by about 0.03 nats" in WORDS
    assert int(np.argmin(effects)) == 5
    assert effects[5] == pytest.approx(-0.032, abs=0.012)
    assert abs(effects[EXPERT]) < 0.03, "no answer stands or falls with it"


def test_which_tasks_pick_it() -> None:
    atlas = Atlas.load(ROOT / "assets" / "atlas" / "demo" / "atlas.npz")
    beside = task_shares(atlas, "prompt")[:, EXPERT] - load(atlas, "prompt").mean(axis=(0, 1))[EXPERT]  # [G]
    most, least = int(beside.argmax()), int(beside.argmin())
    assert (atlas.tasks[most], atlas.tasks[least]) == ("abbreviation", "medquad_inheritance")
    assert f"abbreviations pick it most ({beside[most] * 100:.1f} points above the mean of tasks)" in WORDS
    assert f"questions of inheritance least ({-beside[least] * 100:.1f} points below)" in WORDS
