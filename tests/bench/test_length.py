from __future__ import annotations

import pytest

from molora.bench import __main__ as command
from molora.bench.length import costs
from molora.bench.report import lengths_table
from molora.engine import Engine


def test_each_length_has_its_cost_and_attention_is_a_part_of_it(engine: Engine) -> None:
    found = costs(engine, (5, 600, 10**9))
    assert [one.length for one in found] == [5, 600], "the model reads 1,024 tokens"
    assert all(0 < one.attention < one.token for one in found)
    assert all(one.unrecorded > 0 for one in found)
    assert lengths_table([cost._asdict() for cost in found]).splitlines()[-1].startswith("| after 600 others | ")


def test_it_is_asked_for_by_name(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "load", lambda *_: engine)
    assert command.main(["--length"]) == 0
    assert "| after 10 others | " in capsys.readouterr().out
