"""The command on a random model: kept answers, resuming, stale ones, the report without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from molora import evaluate
from molora.base import load_base
from molora.engine import Engine
from molora.errors import MoloraError
from molora.evaluate import main, parse, run, sample, size_of
from molora.evaluation.results import Size
from molora.evaluation.systems import SYSTEMS, System
from molora.tasks import TASKS, Item
from tests.results_made import ROUTING
from tests.sources import make_mts_dialog, make_pubmedqa


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    make_pubmedqa(tmp_path / "data")
    make_mts_dialog(tmp_path / "data")
    return tmp_path / "data"


class Opened:
    """Systems that are all one model, and the order in which they were opened; the weights' checksum can be changed."""

    def __init__(self, engine: Engine, checksum: str | None = "1") -> None:
        self.names: list[str] = []
        self._engine, self._checksum = engine, checksum

    def open(self, name: str) -> System:
        self.names.append(name)
        return System(name, self._engine.model, self._engine.tokenizer)

    def fingerprint(self, name: str) -> str | None:
        return self._checksum


class Absent:
    """No model is to be had."""

    def open(self, name: str) -> System:
        raise AssertionError(f"{name} is not needed")

    def fingerprint(self, name: str) -> str | None:
        return None


def arguments(data: Path, *more: str) -> list[str]:
    out = data.parent
    return [
        *("--suite", "--data", str(data), "--work", str(out / "work"), "--report", str(out / "out" / "results.json")),
        *("--tasks", "pubmedqa,mts_section", "--systems", "base,molora", "--items", "4", *more),
    ]


def test_the_report_is_written_and_made_again_without_a_model(
    engine: Engine, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    atlas = data.parent / "atlas.json"
    atlas.write_text(json.dumps(ROUTING | {"more": [1]}))
    opened = Opened(engine)
    assert main(arguments(data, "--atlas", str(atlas)), opened) == 0
    assert opened.names == ["base", "molora"]
    report = data.parent / "out" / "results.json"
    first = json.loads(report.read_text())
    assert first["tasks"]["pubmedqa"]["n"] == 4
    assert first["routing"] == ROUTING
    assert first["trained_parameters"] > 0
    assert first["paired"]["molora-base"] == {"difference": 0, "low": 0, "high": 0}, "one model twice"
    assert "**all (2)**" in capsys.readouterr().out
    report.unlink()
    assert run(parse(arguments(data, "--atlas", str(atlas))), Absent()) == first


def test_interrupted_it_goes_on_with_what_is_missing(
    engine: Engine, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, str]] = []

    def predict(system: System, task: Any, items: list[Item], batch_size: int) -> list[str]:
        asked.append((system.name, task.name))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return [item.answer for item in items]

    monkeypatch.setattr(evaluate, "predict", predict)
    assert main(arguments(data), Opened(engine)) == 1
    assert "the same command goes on" in capsys.readouterr().err
    opened = Opened(engine)
    assert main(arguments(data), opened) == 0
    assert opened.names == ["molora"]
    assert asked[3:] == [("molora", "pubmedqa"), ("molora", "mts_section")]


def test_answers_of_a_system_that_was_trained_for_them_are_kept_as_its_own(engine: Engine, data: Path) -> None:
    class Untrained(Opened):
        def fingerprint(self, name: str) -> str | None:
            return f"weights of {name}" if name in self.names else None

    opened = Untrained(engine)
    run(parse(arguments(data)), opened)
    run(parse(arguments(data)), opened)
    assert opened.names == ["base", "molora"], "once each"


def test_other_items_and_other_weights_are_answered_anew(engine: Engine, data: Path) -> None:
    run(parse(arguments(data)), Opened(engine))
    for more, checksum, expected in (
        ((), "1", []),
        ((), "2", ["base", "molora"]),
        (("--items", "3"), "2", ["base", "molora"]),
    ):
        opened = Opened(engine, checksum)
        run(parse(arguments(data, *more)), opened)
        assert opened.names == expected


def test_a_damaged_file_counts_as_absent(engine: Engine, data: Path) -> None:
    run(parse(arguments(data)), Opened(engine))
    (data.parent / "work/predictions/molora/pubmedqa.json").write_text('{"items":')
    opened = Opened(engine)
    run(parse(arguments(data)), opened)
    assert opened.names == ["molora"]


def test_the_sample_is_the_same_for_the_same_seed() -> None:
    test = [Item(str(number), "") for number in range(30)]
    chosen = sample(TASKS["pubmedqa"], test, 10, 0)
    assert chosen == sample(TASKS["pubmedqa"], test, 10, 0)
    assert len(set(chosen)) == 10
    assert chosen != sample(TASKS["pubmedqa"], test, 10, 1)
    assert sorted(sample(TASKS["pubmedqa"], test, 99, 0)) == sorted(test)


def test_sizes_count_the_adapter_as_trained(engine: Engine) -> None:
    base, _ = load_base(engine.info.base)
    plain, wrapped = size_of(base), size_of(engine.model)
    assert plain == Size(0, sum(p.numel() for p in base.parameters()))
    assert wrapped.total - wrapped.trained == plain.total
    assert wrapped.trained > 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--tasks", ","), "No task is named"),
        (("--tasks", "tea"), "no task 'tea'"),
        (("--tasks", "ncbi_disease"), "The task ncbi_disease cannot be built: NCBI disease corpus lacks"),
        (("--systems", "molora,other"), "no system 'other'; known are base, lora_total"),
        (("--items", "0"), "--items is 0"),
        (("--batch-size", "0"), "--batch-size is 0"),
        (("--atlas", "nowhere.json"), "nowhere.json has no nmi"),
    ],
)
def test_what_cannot_be_used_is_named(engine: Engine, data: Path, more: tuple[str, ...], message: str) -> None:
    with pytest.raises(MoloraError, match=message):
        run(parse(arguments(data, *more)), Opened(engine))


def test_errors_end_the_command_with_one_line(engine: Engine, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(data, "--tasks", "tea"), Opened(engine)) == 1
    assert "molora.evaluate: There is no task 'tea'" in capsys.readouterr().err


def test_without_a_choice_all_tasks_and_systems_are_compared(
    engine: Engine, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "TASKS", {name: TASKS[name] for name in ("mts_section", "pubmedqa")})
    out = ["--work", str(data.parent / "work"), "--report", str(data.parent / "results.json"), "--items", "2"]
    report = run(parse(["--suite", "--data", str(data), *out]), Opened(engine))
    assert list(report["tasks"]) == ["mts_section", "pubmedqa"]
    assert list(report["macro"]) == list(SYSTEMS)


def test_tasks_without_sources_are_left_out_and_told(
    engine: Engine, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate, "TASKS", {name: TASKS[name] for name in ("ncbi_disease", "pubmedqa")})
    report = run(parse(arguments(data, "--tasks", "all")), Opened(engine))
    assert list(report["tasks"]) == ["pubmedqa"]
    assert "left out: ncbi_disease" in capsys.readouterr().err
