"""The command, on a small random model: what it counts, what it writes, how it goes on, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from molora.atlas import run as command
from molora.atlas.data import Atlas
from molora.base import load_base
from molora.checkpoint import write_checkpoint
from molora.config import MoloraConfig
from molora.engine import Engine
from molora.loading import load
from molora.tasks import Item
from molora.trace import ANSWER, PROMPT
from molora.wrap import wrap
from tests.sources import make_mts_dialog, make_ncbi_disease, make_pubmedqa

TASKS = ("pubmedqa", "mts_section")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_pubmedqa(folder)
    make_mts_dialog(folder)
    disease = [[("ataxia", "B-Disease"), (f"number{n}", "O"), (".", "O")] for n in range(12)]
    make_ncbi_disease(folder, {"train": disease[:6], "devel": disease[6:8], "test": disease[8:]})
    return folder


def arguments(checkpoint: Path, data: Path, out: Path, *more: str, tasks: tuple[str, ...] = TASKS) -> list[str]:
    return [
        *("--model", str(checkpoint), "--data", str(data), "--out", str(out), "--tasks", *tasks),
        *("--prompts", "3", "--max-new-tokens", "4", "--max-prompt-tokens", "600", *more),
    ]


def test_a_prompt_is_counted_pick_by_pick(engine: Engine) -> None:
    one = command.map_task(engine, "pubmedqa", ["What is a cough?", "Why?"], 4, {"seed": 0})
    for row, prompt in enumerate(["What is a cough?", "Why?"]):
        trace = engine.answer([{"role": "user", "content": prompt}], max_new_tokens=4).trace
        for side, phase in enumerate((PROMPT, ANSWER)):
            for layer, projection in ((0, 0), (2, 1)):
                picked = trace.expert_ids[trace.phase == phase, layer, projection].ravel()
                expected = [int((picked == expert).sum()) for expert in range(8)]
                assert one.picks[row, side, layer, projection].tolist() == expected
    tokens = one.picks[:, 0, 0, 0].sum() / engine.info.top_k
    assert one.weights[0, 0, 0, 0].sum() == pytest.approx(tokens, rel=1e-5), "weights of a token add up to 1"
    assert (one.families, one.meta["adapter_sha256"]) == (("classification",), engine.info.adapter_sha256)


def test_prompts_are_drawn_once_each_and_long_ones_passed_over(engine: Engine) -> None:
    items = [Item(f"Is it {n}?", "yes") for n in range(9)] * 2 + [Item("long " * 200, "no")]
    drawn = command.chosen(engine, items, 20, 100, 0)
    assert sorted(drawn) == sorted({item.prompt for item in items[:9]})
    assert command.chosen(engine, items, 4, 100, 0) == drawn[:4]
    assert command.chosen(engine, items, 20, 100, 1) != drawn
    assert command.chosen(engine, items, 20, 5, 0) == []


def test_the_command_writes_atlas_and_report_and_goes_on(
    checkpoint: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(arguments(checkpoint, data, tmp_path)) == 0
    said = capsys.readouterr().out
    whole = Atlas.load(tmp_path / "atlas.npz")
    report = json.loads((tmp_path / "atlas.json").read_text())
    assert whole.tasks == TASKS == tuple(report["tasks"])
    assert f"{report['nmi']:.4f}" in said
    assert report["settings"] == {"prompts": 3, "max_new_tokens": 4, "max_prompt_tokens": 600, "seed": 0} | {
        "untrained_routers": False
    }
    assert report["task_recovery_chance"] == 0.5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["atlas.json", "atlas.npz"]

    asked: list[str] = []
    counted = command.map_task

    def noted(*args: Any) -> Atlas:
        asked.append(args[1])
        return counted(*args)

    monkeypatch.setattr(command, "map_task", noted)
    assert command.main(arguments(checkpoint, data, tmp_path, tasks=(*TASKS, "ncbi_disease"))) == 0
    assert asked == ["ncbi_disease"], "what is there already is kept"
    Atlas.load(tmp_path / "atlas.npz").of_tasks(["mts_section"]).save(tmp_path / "atlas.npz")
    assert command.main(arguments(checkpoint, data, tmp_path)) == 0
    assert asked == ["ncbi_disease", "pubmedqa"], "an interrupted run goes on"
    again = Atlas.load(tmp_path / "atlas.npz")
    assert again.tasks == TASKS
    np.testing.assert_array_equal(again.picks, whole.picks)
    assert command.main(arguments(checkpoint, data, tmp_path, "--seed", "1")) == 0
    assert asked[2:] == [*TASKS], "other settings, another atlas"


def test_untrained_routers_leave_the_experts_and_make_an_atlas_of_no_adapter(
    checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    before, after = (load(str(checkpoint)).model for _ in range(2))
    command.draw_routers(after, 3)
    kept = {name: torch.equal(p, dict(before.named_parameters())[name]) for name, p in after.named_parameters()}
    assert {name for name, same in kept.items() if not same} == {name for name in kept if ".router." in name}
    assert command.main(arguments(checkpoint, data, tmp_path, "--untrained-routers")) == 0
    assert Atlas.load(tmp_path / "atlas.npz").meta["adapter_sha256"].startswith("untrained routers, ")


def test_what_cannot_be_mapped_is_said_in_one_line(
    base: Path, checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*args: str) -> str:
        capsys.readouterr()
        assert command.main(args) == 1
        return next(line for line in capsys.readouterr().err.splitlines() if line.startswith("molora.atlas: "))

    out = tmp_path / "out"
    assert "There is no task 'x'" in refused(*arguments(checkpoint, data, out, tasks=("x",)))
    assert "PubMedQA lacks" in refused(*arguments(checkpoint, tmp_path, out))
    assert "pubmedqa has 0 short prompts" in refused(*arguments(checkpoint, data, out, "--max-prompt-tokens", "5"))
    model, _ = load_base(str(base))
    config = MoloraConfig(num_experts=1, top_k=1, base=str(base))
    plain = tmp_path / "plain"
    write_checkpoint(plain, wrap(model, config), config, model.config.to_diff_dict(), torch.bfloat16)
    assert "has no routers" in refused(*arguments(plain, data, out))
    assert not out.exists()


@pytest.mark.parametrize("wrong", [("--prompts", "1"), ("--max-new-tokens", "0"), ("--max-prompt-tokens", "99999")])
def test_numbers_out_of_range_are_refused(wrong: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.parse(wrong)
    assert "--prompts is 2 or more" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.parse(["--untrained-routers"])
    assert "needs --out" in capsys.readouterr().err
