from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from lm_eval.tasks import TaskManager

from molora import evaluate
from molora.base import load_base
from molora.engine import Engine
from molora.errors import MoloraError
from molora.evaluation import harness
from tests.evaluation.benchmarks.made_up import make_cmb, make_cmexam, make_ple, make_promptcblue
from tests.sources import make_pubmedqa

OURS = sorted(path.stem for path in harness.BENCHMARKS.glob("[!_]*.yaml"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    make_pubmedqa(tmp_path)
    make_cmexam(tmp_path)
    make_cmb(tmp_path)
    make_ple(tmp_path)
    make_promptcblue(tmp_path)
    return tmp_path


def test_each_benchmark_has_a_row_in_the_readme() -> None:
    readme = (harness.BENCHMARKS / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", readme))
    assert len(OURS) == 25
    assert set(OURS) <= named


def test_the_missing_extra_is_named_with_its_mend(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    assert evaluate.main(["--harness", "pubmedqa_local"]) == 1
    said = capsys.readouterr().err
    assert "pip install --group harness" in said
    assert len(said.splitlines()) == 1


def test_a_limit_of_none_at_all_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main(["--harness", "pubmedqa_local", "--limit", "0"]) == 1
    assert "--limit is 0" in capsys.readouterr().err


def test_the_table_has_a_row_for_each_metric() -> None:
    scores = {"molora": 0.5, "base_alone": 0.25}
    report: dict[str, Any] = {
        key: {"tasks": {"exam": {"questions": 8, "acc": value, "acc_stderr": 0.1, "macro_f1": value}}}
        for key, value in scores.items()
    }
    assert harness.table(report).splitlines() == [
        "| task | questions | metric | base | MoLoRA |",
        "| --- | --- | --- | --- | --- |",
        "| exam | 8 | acc | 0.250 ± 0.100 | 0.500 ± 0.100 |",
        "| exam | 8 | macro_f1 | 0.250 | 0.500 |",
    ]


def test_every_benchmark_of_ours_runs_from_local_files(engine: Engine, data: Path) -> None:
    report = harness.run_harness(engine, OURS, data=data, limit=1, batch_size=2, max_new_tokens=4)
    assert set(report["tasks"]) == set(OURS)
    assert report["tasks"]["cmb"].keys() >= {"acc", "acc_first_letter_reference", "acc_phrase_reference"}
    assert report["tasks"]["promptcblue_chip_sts"].keys() == {"questions", "micro_f1", "weighted_f1_reference"}
    assert {scores["questions"] for scores in report["tasks"].values()} == {1}


def test_likelihoods_are_those_of_the_model_in_its_chat_template(engine: Engine, data: Path) -> None:
    import torch

    from molora.chat import encode_chat
    from molora.tasks import TASKS

    right = 0
    items = TASKS["pubmedqa"].load(data).test
    for item in items:
        prompt = encode_chat(engine.tokenizer, [{"role": "user", "content": item.prompt}]).token_ids
        scores = []
        for choice in item.choices:
            ids = engine.tokenizer(choice, add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                logits = engine.model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
            scores.append(float(logits.log_softmax(-1)[range(len(ids)), ids].sum()))
        right += item.choices[scores.index(max(scores))] == item.answer
    scores_of = harness.run_harness(engine, ["pubmedqa_local"], data=data)["tasks"]["pubmedqa_local"]
    assert scores_of["questions"] == len(items) == 6
    assert scores_of["acc"] == pytest.approx(right / 6, abs=1e-4)


def test_files_stand_in_for_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "yaml").mkdir()
    (tmp_path / "yaml/from_hub.yaml").write_text(
        "task: from_hub\ndataset_path: nobody/nothing\ndataset_name: some\ntest_split: test\n"
        "output_type: multiple_choice\ndoc_to_text: ask\ndoc_to_target: right\ndoc_to_choice: [a, b]\n"
    )
    (tmp_path / "from_hub").mkdir()
    (tmp_path / "from_hub/test.jsonl").write_text(json.dumps({"ask": "Is it?", "right": "a"}) + "\n")
    spec = harness.spec_of("from_hub", tmp_path, {"from_hub"})
    loaded = TaskManager(include_path=tmp_path / "yaml", include_defaults=False).load([spec])
    assert loaded["tasks"]["from_hub"].eval_docs[0]["ask"] == "Is it?"


def test_a_benchmark_is_its_name_or_its_files(tmp_path: Path) -> None:
    assert (
        harness.spec_of("medmcqa", None, {"medmcqa"}) == harness.spec_of("medmcqa", tmp_path, {"medmcqa"}) == "medmcqa"
    )
    with pytest.raises(MoloraError, match=r"no benchmark 'nothing'.*pubmedqa_local"):
        harness.spec_of("nothing", None, {"medmcqa"})
    (tmp_path / "medmcqa").mkdir()
    for name in ("train.parquet", "validation.parquet", "notes.txt"):
        (tmp_path / "medmcqa" / name).write_bytes(b"")
    spec = harness.spec_of("medmcqa", tmp_path, {"medmcqa"})
    assert isinstance(spec, dict)
    (task,) = spec["task"]
    assert task["dataset_path"] == "parquet"
    assert set(task["dataset_kwargs"]["data_files"]) == {"train", "validation"}
    (tmp_path / "medmcqa/test.jsonl").write_bytes(b"")
    with pytest.raises(MoloraError, match="both JSON and Parquet"):
        harness.spec_of("medmcqa", tmp_path, {"medmcqa"})


def test_missing_files_are_said_before_the_model_works(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(MoloraError, match=r"CMB-test-choice-answer\.json"):
        harness.run_harness(engine, ["cmb"], data=tmp_path)
    with pytest.raises(MoloraError, match="give --data"):
        harness.run_harness(engine, ["promptcblue"])
    with pytest.raises(MoloraError, match="leave no room in this model's 1024"):
        harness.run_harness(engine, ["cmb"], data=tmp_path, max_new_tokens=1024)


def test_the_command_reports_model_and_base(
    checkpoint: Path, base: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model", str(checkpoint), "--data", str(data), "--with-base", "--report", str(data / "out.json")]
    assert evaluate.main(["--harness", "pubmedqa_local", *options]) == 0
    report = json.loads((data / "out.json").read_text())
    alone = harness.run_harness(load_base(str(base)), ["pubmedqa_local"], data=data)
    assert report["base_alone"]["tasks"] == alone["tasks"]
    assert "| pubmedqa_local | 6 | acc |" in capsys.readouterr().out
