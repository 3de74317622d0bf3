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
import torch.nn.functional as F

import molora
from molora.checkpoint import read_checkpoint
from molora.config import MoloraConfig
from molora.errors import MoloraError
from molora.examples import IGNORED, Example, collate, encode, mix
from molora.layers import Router, Routing
from molora.loading import load_base
from molora.losses import answer_loss, balance_loss, held_out_losses, routings
from molora.tasks import Item
from molora.train import last_complete, parse, run, shares_of, trained
from molora.wrap import wrap
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
        *("--learning-rate", "0.01", *more),
    ]


def settings(*args: Any) -> argparse.Namespace:
    return parse(arguments(*args))


def test_examples_carry_loss_on_the_answer_alone(base: Path) -> None:
    _, tokenizer = load_base(str(base))
    example = encode(tokenizer, Item("Is it asthma?", "yes"), 200)
    assert example is not None
    assert tokenizer.decode(example.token_ids[: example.answer_at]).endswith("<|im_start|>assistant\n")
    assert tokenizer.decode(example.token_ids[example.answer_at :]) == "yes<|im_end|>\n"
    assert encode(tokenizer, Item("Is it asthma?", "yes"), example.answer_at) is None, "nothing of the answer left"


def test_padding_and_prompts_have_no_label() -> None:
    batch = collate([Example([5, 6, 7, 8], 2), Example([9, 10], 1)], pad=0)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8], [9, 10, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORED, IGNORED, 7, 8], [IGNORED, 10, IGNORED, IGNORED]]


def test_answer_loss_is_that_of_the_whole_vocabulary_at_every_token(base: Path) -> None:
    model, _ = load_base(str(base))
    batch = collate([Example([5, 6, 7, 8], 2), Example([9, 10], 1)], pad=0)
    total, count = answer_loss(model, batch)
    logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    plain = F.cross_entropy(logits[:, :-1].transpose(1, 2), batch["labels"][:, 1:], reduction="sum")
    assert count == 3
    torch.testing.assert_close(total, plain)


def test_balance_loss_is_one_when_even_and_e_when_all_go_to_one() -> None:
    mask = torch.tensor([[True, True, True, True, False]])
    even = torch.full((1, 5, 4), -20.0).scatter(-1, torch.tensor([[[0], [1], [2], [3], [0]]]), 20.0)
    ids = even.topk(1).indices
    torch.testing.assert_close(balance_loss(Routing(even, ids, torch.ones(1, 5, 1)), mask), torch.tensor(1.0))
    one = torch.full((1, 5, 4), -20.0).index_fill(-1, torch.tensor([2]), 20.0)
    ids = one.topk(1).indices
    torch.testing.assert_close(balance_loss(Routing(one, ids, torch.ones(1, 5, 1)), mask), torch.tensor(4.0))


def test_mix_keeps_the_shares_and_deals_pools_out_whole() -> None:
    pools = {"a": [Example([n], 0) for n in range(10)], "b": [Example([n], 0) for n in range(100, 103)]}
    dealt = mix(pools, {"a": 1.0, "b": 1.0}, 20, seed=0)
    ids = [example.token_ids[0] for example in dealt]
    assert sorted(ids)[:10] == list(range(10)), "each once before any comes again"
    assert all(ids.count(n) in (3, 4) for n in (100, 101, 102))
    assert dealt == mix(pools, {"a": 1.0, "b": 1.0}, 20, seed=0) != mix(pools, {"a": 1.0, "b": 1.0}, 20, seed=1)


def test_only_the_adapter_is_trained_and_router_hooks_come_off(base: Path) -> None:
    model, _ = load_base(str(base))
    wrap(model, MoloraConfig(num_experts=4, top_k=2))
    assert {name.rpartition(".")[2] for name in trained(model)} == {"lora_A", "lora_B", "weight", "bias"}
    assert not any("base_layer" in name for name in trained(model))
    with routings(model) as seen:
        model(torch.arange(6)[None])
    assert len(seen) == 9
    assert not any(m._forward_hooks for m in model.modules() if isinstance(m, Router))


def test_training_lowers_the_loss_and_the_checkpoint_loads(base: Path, data: Path, tmp_path: Path) -> None:
    card = run(settings(base, data, tmp_path, "--steps", "12"))
    for task in card["tasks"].values():
        assert task["loss_after"] < task["loss_before"] - 0.5
    assert card == json.loads((tmp_path / "training.json").read_text())
    assert card["weights"]["trained"] < card["weights"]["total"]
    assert read_checkpoint(tmp_path).dtype == torch.bfloat16
    engine = molora.load(str(tmp_path))
    assert engine.info.num_experts == 4
    pools = {"x": [Example([5, 6, 7], 1)]}
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


def test_missing_data_and_unknown_tasks_are_named(tmp_path: Path, base: Path, data: Path) -> None:
    with pytest.raises(MoloraError, match=r"There is no task 'x'; known are medquad_causes, medquad_considerations"):
        shares_of("pubmedqa=1,x=2")
    with pytest.raises(MoloraError, match="The share of pubmedqa is 'much'; a number is expected"):
        shares_of("pubmedqa=much")
    with pytest.raises(MoloraError, match=r"PubMedQA lacks ori_pqal.json, .*Get ori_pqal.json and"):
        run(settings(base, tmp_path, tmp_path / "out"))


def test_a_state_cut_short_is_passed_over(tmp_path: Path) -> None:
    assert last_complete(tmp_path) is None
    for step, whole in ((3, True), (30, True), (300, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if whole:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").touch()
    assert last_complete(tmp_path) == str(tmp_path / "checkpoint-30")
