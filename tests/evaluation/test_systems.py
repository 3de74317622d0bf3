from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from molora.base import skeleton
from molora.config import ALL_PROJECTIONS, ATTENTION_PROJECTIONS, LoraConfig, MoloraConfig
from molora.errors import MoloraError
from molora.evaluation.systems import SYSTEMS, Suite, plain_rank, training_options
from molora.train import parse, run
from molora.training.trainer import trained
from molora.wrap import wrap
from tests.sources import make_mts_dialog, make_pubmedqa

EXPERTS, TOP_K, RANK = 8, 2, 8


def size(base: Path, experts: int, rank: int) -> int:
    lora = LoraConfig(rank)
    targets = ATTENTION_PROJECTIONS if experts > 1 else ALL_PROJECTIONS
    config = MoloraConfig(experts, TOP_K, experts=lora, attention=lora, target_modules=targets)
    model = wrap(skeleton(str(base)), config)
    return sum(p.numel() for p in trained(model).values())


def test_plain_loras_are_as_large_as_the_mixture_or_as_what_works_on_a_token(base: Path) -> None:
    total, active = (plain_rank(skeleton(str(base)), EXPERTS, RANK, top_k) for top_k in (None, TOP_K))
    step = size(base, 1, 1)
    assert abs(size(base, 1, total) - size(base, EXPERTS, RANK)) <= step / 2
    routers = 2 * size(base, EXPERTS, RANK // 2) - size(base, EXPERTS, RANK)  # what does not grow with the rank
    one = (size(base, EXPERTS, RANK) - routers - size(base, 1, RANK)) / (EXPERTS - 1)  # an expert on every projection
    assert abs(size(base, 1, active) - (size(base, 1, RANK) + (TOP_K - 1) * one)) <= step / 2


@pytest.fixture(scope="module")
def suite(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Suite:
    """A MoLoRA trained for a few steps, with what is compared with it still to be trained."""
    folder = tmp_path_factory.mktemp("suite")
    data = folder / "data"
    data.mkdir()
    make_pubmedqa(data)
    make_mts_dialog(data)
    tiny = "--experts=4 --rank=2 --alpha=4 --steps=3 --batch-size=2 --seed=5 --learning-rate=0.01 --max-length=600"
    out = ["--tasks=pubmedqa,mts_section", f"--data={data}", f"--out={folder / 'molora'}", f"--base={base}"]
    run(parse([*tiny.split(), *out]))
    return Suite(folder / "molora", folder / "work", data)


def told(suite: Suite) -> dict[str, Any]:
    training: dict[str, Any] = json.loads((suite.molora / "training.json").read_text())
    return training


def test_other_systems_are_trained_with_the_settings_of_molora(suite: Suite) -> None:
    for spec in SYSTEMS.values():
        assert spec.says
        if spec.weights == "own":
            args = parse(["--out", "x", *training_options(spec, told(suite))])
            assert args.alpha == 2 * args.rank
            assert (args.experts == 4) == (spec.size == "mixture")
            assert (args.steps, args.batch_size, args.seed, args.learning_rate) == (3, 2, 5, 0.01)
            assert args.tasks == "pubmedqa,mts_section"


def test_every_system_opens_and_answers_in_its_own_way(suite: Suite) -> None:
    logits = {}
    for name in SYSTEMS:
        system = suite.open(name)
        with system.on("pubmedqa"):
            logits[name] = system.model(torch.arange(6)[None]).logits
        assert suite.fingerprint(name) is not None
    assert len({tuple(values.flatten().tolist()) for values in logits.values()}) == len(SYSTEMS)
    assert suite.fingerprint("molora") == suite.fingerprint("molora_uniform") != suite.fingerprint("oracle")
    written = suite.folder("oracle") / "README.md"
    before = written.stat().st_mtime_ns
    oracle = suite.open("oracle")
    assert written.stat().st_mtime_ns == before, "trained once"
    with oracle.on("mts_section"):
        other = oracle.model(torch.arange(6)[None]).logits
    assert not torch.equal(other, logits["oracle"]), "another task, other experts"
    with pytest.raises(MoloraError, match="oracle was not trained on ncbi_disease"), oracle.on("ncbi_disease"):
        pass


def test_systems_answer_in_the_precision_of_the_training(suite: Suite, tmp_path: Path) -> None:
    copied = shutil.copytree(suite.molora, tmp_path / "molora")
    training = told(suite)
    training["settings"]["precision"] = "bf16"
    (copied / "training.json").write_text(json.dumps(training))
    narrow = Suite(copied, suite.work, suite.data)
    for name in ("base", "molora"):
        assert suite.open(name).model.dtype == torch.float32
        assert narrow.open(name).model.dtype == torch.bfloat16
        assert narrow.fingerprint(name) != suite.fingerprint(name), "other answers"


def test_a_checkpoint_that_does_not_tell_its_training_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(MoloraError, match=r"training\.json cannot be read"):
        Suite(checkpoint, tmp_path, None).open("lora_total")
