"""The table: read back with pandas alone, the same numbers as the trace, and no formula for a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from molora.export import COLUMNS, long_form, write_csv
from molora.trace import RoutingTrace
from tests.fakes import fake_trace

TEXTS = ["<|user|>", " a", '"quoted", too', "\n", "", "哮喘", "NA", "12", "=1+1", "-", "'s", "\r"]


def read(path: Path) -> pd.DataFrame:
    """As the README tells it."""
    return pd.read_csv(path, dtype={"text": str, "edit": str}, keep_default_na=False)


def test_the_table_has_a_row_for_each_pick_in_order() -> None:
    trace = fake_trace(6, layers=3)
    trace.layer_indices = np.array([0, 5, 9], np.int16)
    table = pd.DataFrame(long_form(trace))
    assert tuple(table.columns) == COLUMNS
    assert len(table) == trace.expert_ids.size
    row = table[(table.token == 4) & (table.layer == 9) & (table.projection == "up_proj") & (table["rank"] == 2)].iloc[
        0
    ]
    assert row.expert == trace.expert_ids[4, 2, 1, 1]
    assert row.weight == trace.expert_weights[4, 2, 1, 1]
    assert (row.text, row.phase) == (" w4", "prompt")
    order = table[["token", "layer"]].to_numpy().tolist()
    assert order == sorted(order)


def test_slots_without_a_pick_have_no_row() -> None:
    trace = fake_trace(5)
    trace.expert_ids[2] = -1
    trace.expert_ids[3, 0, 0, 1] = -1
    columns = long_form(trace)
    assert 2 not in columns["token"]
    assert len(columns["token"]) == 4 * 4 * 3 * 2 - 1


def test_pandas_alone_reads_the_csv_with_the_same_numbers(tmp_path: Path) -> None:
    trace = fake_trace(TEXTS * 12)
    write_csv(trace, tmp_path / "run.csv")
    table, columns = read(tmp_path / "run.csv"), long_form(trace)
    for name in ("token", "layer", "projection", "rank", "expert", "phase"):
        assert table[name].tolist() == columns[name].tolist(), name
    np.testing.assert_array_equal(table["weight"].to_numpy(np.float32), columns["weight"])
    assert table["text"].str.removeprefix("'").tolist() == columns["text"].tolist()
    assert set(table["edit"]) == {""}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-2", "@SUM(A1)", " =1", "\t=1", "＝1", "'=1", "\n"])
def test_no_text_becomes_a_formula(text: str) -> None:
    file = io.BytesIO()
    write_csv(fake_trace([text], template=0, prompt=1), file)
    first = next(csv.DictReader(io.StringIO(file.getvalue().decode(), newline="")))
    assert first["text"] == "'" + text


@pytest.mark.parametrize("text", ["asthma", " and", "a=b", "", "1"])
def test_other_texts_stay(text: str) -> None:
    file = io.BytesIO()
    write_csv(fake_trace([text], template=0, prompt=1), file)
    assert next(csv.DictReader(io.StringIO(file.getvalue().decode(), newline="")))["text"] == text


def test_half_a_character_does_not_stop_the_export() -> None:
    file = io.BytesIO()
    write_csv(fake_trace(["\ud83d"], template=0, prompt=1), file)
    assert "\\ud83d" in file.getvalue().decode()


def test_an_edit_stands_in_every_row(tmp_path: Path) -> None:
    trace = fake_trace(3)
    trace.meta["edit"] = {"words": "without expert 3", "rules": []}
    write_csv(trace, tmp_path / "run.csv")
    assert set(read(tmp_path / "run.csv")["edit"]) == {"without expert 3"}


def test_a_trace_without_routers_is_a_header() -> None:
    file = io.BytesIO()
    write_csv(fake_trace(4, projections=(), experts=1, top_k=0), file)
    assert file.getvalue().decode().splitlines() == [",".join([*COLUMNS, "edit"])]


def test_a_long_trace_is_written_quickly() -> None:
    trace, begun = fake_trace(512, layers=32), time.process_time()
    write_csv(trace, io.BytesIO())
    assert time.process_time() - begun < 3


def test_numpy_alone_reads_the_trace(tmp_path: Path) -> None:
    trace = fake_trace(TEXTS)
    trace.save(tmp_path / "run.npz")
    with np.load(tmp_path / "run.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["expert_ids"], trace.expert_ids)
        assert json.loads(file["token_text"].tobytes()) == TEXTS


@pytest.mark.parametrize(
    ("edit", "words"),
    [(None, ""), ({"words": "without expert 3"}, "without expert 3"), ({"x": 1}, "unnamed"), ("a", "a")],
)
def test_a_trace_says_its_edit(edit: object, words: str) -> None:
    trace: RoutingTrace = fake_trace(2)
    trace.meta["edit"] = edit
    assert trace.edit == words
