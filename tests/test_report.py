from __future__ import annotations

import json
from pathlib import Path

import pytest

from molora.errors import MoloraError
from molora.report import filled, full_table, main, replaced, short_table
from tests.results_made import ROUTING, made_results


def rows(table: str) -> dict[str, list[str]]:
    """First cell -> the others."""
    lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines if len(line) > 2}) == 1, "every row has as many cells"
    return {line[0]: line[1:] for line in lines}


def test_the_short_table_has_a_row_a_family_and_the_mean_with_its_interval() -> None:
    found = made_results(ROUTING)
    table = short_table(found)
    cells = rows(table)
    assert cells["mean over tasks"] == ["base", "MoLoRA"]
    assert cells["classification (1)"] == ["50.0", "100.0"]
    base = found["macro"]["base"]
    assert cells["**all (3)**"] == [f"**50.0** ({base['low']:.1f} to {base['high']:.1f})", "**100.0** (100.0 to 100.0)"]
    assert cells["trained weights"] == ["0", "2.4 M"]
    assert cells["base"][0].startswith("+50.0 (+")
    assert "0.061 (tasks shuffled: 0.0002)" in table
    assert "routing: 81% (chance: 25%)" in table
    assert "routing" not in short_table(made_results())


def test_the_full_table_has_every_task_under_its_family() -> None:
    cells = rows(full_table(made_results()))
    assert cells["trials"] == ["accuracy", "20", "50.0", "100.0"]
    assert list(cells)[2:] == [
        "causes", "sections", "*generation (2)*", "trials", "*classification (1)*", "**all (3)**",
    ]  # fmt: skip


def test_a_block_is_replaced_and_the_rest_stays() -> None:
    text = "a\n<!-- results:begin -->\nold\n<!-- results:end -->\nz\n"
    assert replaced(text, "results", r"new \1") == text.replace("old", r"new \1")
    assert replaced("<!-- results:begin --><!-- results:end -->", "results", "x").count("\nx\n") == 1
    short = filled(text, made_results())
    assert short == replaced(text, "results", short_table(made_results()))
    assert filled(short, made_results()) == short, "made twice, it is the same"


@pytest.mark.parametrize(
    "text",
    [
        "no marks",
        "<!-- results:begin --> no end",
        "<!-- results:end --><!-- results:begin -->",
        "<!-- results:begin --><!-- results:end -->" * 2,
    ],
)
def test_marks_that_are_missing_or_doubled_are_named(text: str) -> None:
    with pytest.raises(MoloraError, match="<!-- results:begin -->"):
        filled(text, made_results())


def test_the_command_writes_both_kinds_of_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, readme, card = (tmp_path / name for name in ("results.json", "README.md", "card.md"))
    source.write_text(json.dumps(made_results()))
    readme.write_text("<!-- results:begin -->\n<!-- results:end -->\n")
    card.write_text("<!-- results-by-task:begin -->\n<!-- results-by-task:end -->\n")
    assert main([str(source), str(readme), str(card)]) == 0
    assert short_table(made_results()) in readme.read_text()
    assert full_table(made_results()) in card.read_text()
    card.write_text("no place")
    before = readme.read_text()
    assert main([str(source), str(readme), str(card)]) == 1
    assert "card.md: There is no" in capsys.readouterr().err
    assert readme.read_text() == before
    assert main([str(tmp_path / "none.json"), str(readme)]) == 1
