"""What the README tells people to type is run, or checked against what it names."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from molora.bench.report import section
from molora.evaluation.harness import table
from molora.report import replaced
from molora.tasks import TASKS
from molora.tasks.task import Family

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8").replace("\\\n", "")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, flags=re.M | re.S)
PYTHON = [code for kind, code in BLOCKS if kind == "python"]
SHELL = "\n".join(code for kind, code in BLOCKS if kind == "sh")


def test_the_library_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = next(code for code in PYTHON if "import molora" in code)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["step"].text
    assert names["trace"].expert_ids.shape[1:] == (30, 3, 2)
    np.testing.assert_array_equal(names["again"].expert_ids, names["trace"].expert_ids)


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"make (\w+)", SHELL)
    assert set(targets) >= {"demo", "test"}
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.M), target


@pytest.mark.parametrize("line", re.findall(r"^python .*", SHELL, flags=re.M))
def test_commands_and_their_options_exist(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    at = next((at for at, word in enumerate(words) if word.startswith("--")), len(words))  # a subcommand stands before
    done = subprocess.run(
        [sys.executable, *words[:at], "--help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    for option in (word for word in words[at:] if word.startswith("--")):
        assert option in done.stdout, f"{line} has no {option}"


def test_links_and_pictures_exist() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_what_it_says_of_the_demos_atlas_is_in_the_atlas() -> None:
    atlas = json.loads((ROOT / "assets/atlas/demo/atlas.json").read_text())
    words = " ".join(README.split())
    assert f"({len(atlas['tasks'])} tasks, {atlas['settings']['prompts']} prompts each" in words
    assert f"recovered from {atlas['parts']['prompt']['task_recovery']:.0%} of the prompts" in words
    answer = atlas["parts"]["answer"]
    assert f"is {answer['nmi']:.3f} (shuffled: {answer['nmi_shuffled']:.3f})" in words


@pytest.mark.parametrize("name", ["first", "second"])
def test_what_it_says_of_earlier_tries_is_in_their_results(name: str) -> None:
    tried, words = json.loads((ROOT / f"assets/results-{name}.json").read_text()), " ".join(README.split())
    assert f"scored {tried['macro']['molora']['score']:.1f} ([all of it](assets/results-{name}.json))" in words
    for other in ("base", "lora_total", "molora_uniform", "oracle"):
        found = tried["paired"][f"molora-{other}"]
        assert f"{found['difference']:+.1f} ({found['low']:+.1f} to {found['high']:+.1f}) over" in words


def test_it_counts_the_tasks_right() -> None:
    families = {task.family for task in TASKS.values()}
    assert f"{len(TASKS)} tasks in five families ({', '.join(get_args(Family))})" in " ".join(README.split())
    assert families == set(get_args(Family))


def test_what_it_says_of_speed_is_in_the_committed_results() -> None:
    reports = [json.loads(path.read_text()) for path in sorted((ROOT / "assets").glob("bench*.json"))]
    assert reports, "python -m molora.bench writes them"
    assert replaced(README, "speed", section(reports)) == README


def test_what_it_says_of_pubmedqa_is_in_the_committed_results() -> None:
    report = json.loads((ROOT / "assets/pubmedqa.json").read_text())
    assert replaced(README, "pubmedqa", table(report)) == README
    assert report["molora"]["tasks"]["pubmedqa_local"]["questions"] == 500
    assert report["molora"]["limit"] is None
