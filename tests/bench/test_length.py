from __future__ import annotations

from pathlib import Path

import pytest

from molora.bench import __main__ as command
from molora.bench import run
from molora.bench.length import costs
from molora.bench.report import lengths_table
from molora.engine import Engine
from molora.loading import load


def test_each_length_has_its_cost_and_attention_is_a_part_of_it(engine: Engine) -> None:
    found = costs(engine, (5, 600, 10**9))
    assert [one.length for one in found] == [5, 600], "the model reads 1,024 tokens"
    assert all(one.attention is not None and 0 < one.attention < one.token for one in found)
    assert all(one.unrecorded > 0 and one.recording_on_over_off > 0 for one in found)
    assert lengths_table([cost._asdict() for cost in found]).splitlines()[-1].startswith("| after 600 others | ")


def test_it_is_asked_for_by_name(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "load", lambda *_: engine)
    assert command.main(["--length"]) == 0
    assert "| after 10 others | " in capsys.readouterr().out


@pytest.mark.cuda
def test_on_a_gpu_attention_is_not_told_apart(checkpoint: Path) -> None:
    (cost,) = costs(load(str(checkpoint)), (5,))
    assert cost.attention is None
    assert cost.token > 0
    assert cost.unrecorded > 0
    assert "|  |  |" in lengths_table([cost._asdict()]), "neither it nor all else"
