from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from molora.errors import MoloraError
from molora.tasks import TASKS
from molora.tasks.__main__ import main
from molora.tasks.sources import Folder
from molora.tasks.task import held_out
from tests.sources import make_medquad, make_mts_dialog

IN_FOLDERS = [name for name, task in TASKS.items() if all(isinstance(source, Folder) for source in task.sources)]


def test_held_out_goes_by_concept_and_keeps_its_share() -> None:
    names = [f"disease {number}" for number in range(4000)]
    assert held_out("Asthma") == held_out(" asthma ") == held_out("ASTHMA")
    assert 0.035 < sum(map(held_out, names)) / len(names) < 0.065


def test_enough_tasks_are_on_text_that_people_wrote() -> None:
    assert sum(task.human for task in TASKS.values()) >= 14


@pytest.mark.parametrize("name", IN_FOLDERS)
def test_missing_files_are_listed_with_their_source(tmp_path: Path, name: str) -> None:
    task = TASKS[name]
    with pytest.raises(MoloraError) as caught:
        task.load(tmp_path)
    (source,) = task.sources
    assert isinstance(source, Folder)
    assert all(file in str(caught.value) for file in source.files)
    assert source.where in str(caught.value)


def test_builds_are_the_same_to_the_byte_in_every_process(tmp_path: Path) -> None:
    copy = "It is told from other growths by the blue ring around each of its many small and painful round spots."
    pages = {f"{letter}oma": [("causes", f"What causes {letter}oma ?", f"{letter}. {copy}")] for letter in "abcdefghij"}
    make_medquad(tmp_path, pages, {focus: ["C1", f"C{number // 2}"] for number, focus in enumerate(pages)})
    made = []
    for seed in ("1", "2"):
        out = tmp_path / seed
        command = [sys.executable, "-m", "molora.tasks", "build", "medquad_causes", "passage_type"]
        environment = os.environ | {"PYTHONHASHSEED": seed}
        subprocess.run(
            [*command, "--data", str(tmp_path), "--out", str(out)], check=True, env=environment, capture_output=True
        )
        made.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert made[0] == made[1]
    assert len(made[0]) == 4
    assert all(made[0].values()), "both halves hold items"


def test_check_passes_without_overlap_and_names_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_mts_dialog(tmp_path)
    assert main(["check", "mts_section", "mts_note", "--data", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "mts_section: no overlap\nmts_note: no overlap\n"
    assert main(["check", "mts_note", "pubmedqa", "--data", str(tmp_path)]) == 1
    assert "Missing for pubmedqa: PubMedQA lacks ori_pqal.json" in capsys.readouterr().err
