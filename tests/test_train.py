from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import molora
from molora.base import load_base
from molora.checkpoint import read_checkpoint
from molora.errors import MoloraError
from molora.train import parse, run
from molora.training.examples import IGNORED, Example
from molora.training.losses import held_out_losses
from tests.sources import make_mts_dialog, make_pubmedqa


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_pubmedqa(folder)
    make_mts_dialog(folder)
    return folder


def arguments(base: Path, data: Path, out: Path, *more: str) -> list[str]:
    return [
        *("--data", str(data), "--out", str(out), "--base", str(base), "--tasks", "pubmedqa=0.5,mts_section=0.5"),
        *("--rank", "2", "--experts", "4", "--batch-size", "4", "--held-out", "4", "--save-steps", "3"),
        *("--learning-rate", "0.01", "--max-length", "600", *more),
    ]


def settings(*args: Any) -> argparse.Namespace:
    return parse(arguments(*args))


def test_training_lowers_the_loss_and_the_checkpoint_loads(base: Path, data: Path, tmp_path: Path) -> None:
    card = run(settings(base, data, tmp_path, "--steps", "12"))
    for task in card["tasks"].values():
        assert task["loss_after"] < task["loss_before"] - 0.5
    assert card == json.loads((tmp_path / "training.json").read_text())
    assert card["weights"]["trained"] < card["weights"]["total"]
    assert read_checkpoint(tmp_path).dtype == torch.bfloat16
    engine = molora.load(str(tmp_path))
    assert engine.info.num_experts == 4
    pools = {"x": [Example([5, 6, 7], [IGNORED, 6, 7])]}
    assert held_out_losses(engine.model, pools, 0, 2) != held_out_losses(load_base(str(base))[0], pools, 0, 2)


def test_a_next_stage_goes_on_from_a_checkpoint_and_its_card_tells_both(base: Path, data: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    earlier = run(settings(base, data, first, "--steps", "8"))
    later = run(settings(base, data, second, "--steps", "1", "--init", str(first), "--learning-rate", "1e-9"))
    assert later["earlier"] == earlier
    for name, task in later["tasks"].items():
        assert task["loss_before"] == pytest.approx(earlier["tasks"][name]["loss_after"], rel=1e-4)
        assert task["loss_base"] == earlier["tasks"][name]["loss_base"] == earlier["tasks"][name]["loss_before"]
    card = (second / "README.md").read_text()
    assert card.index("| stage 1 |") < card.index("| stage 2 |")
    pubmedqa = later["tasks"]["pubmedqa"]
    assert f"| {pubmedqa['loss_base']:.3f} | {pubmedqa['loss_after']:.3f} |" in card
    with pytest.raises(MoloraError, match=r"has 4 experts, top-2, .*alpha=16.0.*this training has .*alpha=4.0"):
        run(settings(base, data, tmp_path / "third", "--init", str(first), "--alpha", "4"))


def test_interrupted_training_resumes_to_the_same_result(base: Path, data: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(settings(base, data, whole, "--steps", "18"))
    command = [sys.executable, "-m", "molora.train", *arguments(base, data, broken, "--steps", "18")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 120
    while not list(broken.glob("run/checkpoint-*/trainer_state.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (broken / "config.json").exists(), "killed before its end"
    run(settings(base, data, broken, "--steps", "18"))
    one, other = read_checkpoint(whole), read_checkpoint(broken)
    for part, tensors in one.tensors.items():
        for name, tensor in tensors.items():
            torch.testing.assert_close(other.tensors[part][name], tensor, rtol=1e-2, atol=1e-4)
    cards = [json.loads((folder / "training.json").read_text()) for folder in (whole, broken)]
    assert cards[0]["tasks"].keys() == cards[1]["tasks"].keys()
    assert cards[0]["tasks"]["pubmedqa"]["loss_before"] == cards[1]["tasks"]["pubmedqa"]["loss_before"]


def test_missing_data_is_named(tmp_path: Path, base: Path) -> None:
    with pytest.raises(MoloraError, match=r"PubMedQA lacks ori_pqal.json, .*Get ori_pqal.json and"):
        run(settings(base, tmp_path, tmp_path / "out"))


def test_own_conversations_are_trained_on_beside_tasks(base: Path, data: Path, tmp_path: Path) -> None:
    rows: list[Any] = [
        {"conversations": [{"from": "human", "value": f"Question {n}"}, {"from": "gpt", "value": "Rest."}]}
        for n in range(30)
    ]
    own = tmp_path / "own"
    own.mkdir()
    (own / "a.json").write_text(json.dumps([*rows, {"conversations": []}]))
    more = ("--steps", "2", "--conversations", str(own))
    with pytest.raises(MoloraError, match=r"a\.json, row 30: it has no list"):
        run(settings(base, data, tmp_path / "refused", *more))
    told = run(settings(base, data, tmp_path / "out", *more, "--bad-rows", "skip"))
    assert 25 <= told["tasks"]["conversations"]["train"] < 30
    assert str(tmp_path) not in (tmp_path / "out" / "README.md").read_text(), "the card tells no path"


def test_a_router_that_is_told_the_task_trains_and_is_refused_elsewhere(base: Path, data: Path, tmp_path: Path) -> None:
    told = run(settings(base, data, tmp_path, "--steps", "8", "--router", "task"))
    for task in told["tasks"].values():
        assert task["loss_after"] < task["loss_before"]
    with pytest.raises(MoloraError, match=r"switch.weight has shape \[4, 2\]; \[4, \d+\] was expected"):
        molora.load(str(tmp_path))


def test_bf16_4bit_and_checkpointing_train_as_well(base: Path, data: Path, tmp_path: Path) -> None:
    plain = run(settings(base, data, tmp_path / "plain", "--steps", "5"))
    saving = run(settings(base, data, tmp_path / "saving", "--steps", "5", "--gradient-checkpointing"))
    small = run(settings(base, data, tmp_path / "small", "--steps", "5", "--precision", "bf16", "--quantize", "4bit"))
    assert saving["losses"][-1][1] == pytest.approx(plain["losses"][-1][1], rel=1e-3)
    assert small["losses"][-1][1] == pytest.approx(plain["losses"][-1][1], rel=0.2)
