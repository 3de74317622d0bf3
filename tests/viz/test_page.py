"""The page as a server: its endpoint, its events, its sessions, the size of what it sends."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import gradio as gr
import numpy as np
import pandas as pd
import pytest
from gradio import networking

import app
from molora.errors import MoloraError
from molora.sampling import Sampling
from molora.trace import RoutingTrace
from tests.fake_atlas import fake_atlas
from tests.fakes import INFO, FakeEngine, fake_trace
from viz import assets, serve
from viz.api import ask_endpoint
from viz.chat import reply
from viz.figures.style import template
from viz.panels import downloads
from viz.panels.routing import RoutingPanel
from viz.report import trace_of
from viz.session import Session, Tab
from viz.view import View

TABS = get_args(Tab)


def column(**sizes: int) -> RoutingPanel:
    with gr.Blocks(analytics_enabled=False):
        layers = sizes.get("layers", 30)
        return RoutingPanel(range(layers), sizes.get("experts", 8), INFO.projections, fake_atlas(layers=layers))


@pytest.mark.parametrize("tab", TABS)
@pytest.mark.parametrize("colour", ["expert", "weight", "entropy"])
def test_an_update_of_512_tokens_stays_below_250_kilobytes(tab: Tab, colour: Any) -> None:
    session = Session(trace=fake_trace(512, layers=30, prompt=40), running=True, length=600, tab=tab)
    session.view = View(colour=colour)
    assert len(json.dumps(column().draw(session))) < 250_000


def test_only_the_open_tab_is_drawn() -> None:
    panel, session = column(layers=4), Session(trace=fake_trace(20), expert=2)
    closed: dict[Tab, int] = {"map": 4, "token": 5, "load": 6, "edit": 5, "compare": 5, "atlas": 4}
    for tab in TABS:
        session.tab = tab
        skipped = sum(value == gr.skip() for value in panel.draw(session))
        assert skipped == sum(closed.values()) - closed[tab] + 3  # controls and legend fit already


def test_hover_texts_come_with_the_last_update_only() -> None:
    panel, session = column(layers=4), Session(trace=fake_trace(20), running=True)
    assert not any("customdata" in str(value) for value in panel.draw(session)[:2])
    session.running = False
    assert "customdata" in panel.draw(session)[1]


def test_a_model_without_routers_gets_a_page() -> None:
    info = replace(INFO, num_experts=1, top_k=0)
    assert info.projections == ()
    page = app.build(FakeEngine(info=info).engine)
    assert page.fns
    panel, session = column(layers=4, experts=1), Session(trace=fake_trace(9, projections=(), experts=1, top_k=0))
    for tab in TABS:
        session.tab = tab
        assert len(panel.draw(session)) == len(panel.outputs)


def test_ask_is_the_only_public_endpoint() -> None:
    page = app.build(FakeEngine().engine)
    assert list(page.get_api_info()["named_endpoints"]) == ["/ask"]
    assert not page.get_api_info()["unnamed_endpoints"]


def test_whatever_runs_the_model_waits_for_one_turn() -> None:
    page = app.build(FakeEngine().engine)
    model = [fn for fn in page.fns.values() if fn.concurrency_id == "model"]
    # a question, an example, a retry, an edit from start or token, a sweep, a second run, and the endpoint
    assert len(model) == 8
    assert {fn.concurrency_limit for fn in model} == {1}
    assert all(not fn.queue for fn in page.fns.values() if fn not in model)


def test_a_session_starts_empty_and_holds_no_engine() -> None:
    page = app.build(FakeEngine().engine)
    state = next(block for block in page.blocks.values() if isinstance(block, gr.State))
    assert state.value == Session()


def test_the_dark_template_changes_colours_only() -> None:
    def keys(value: Any) -> Any:
        return {name: keys(part) for name, part in value.items()} if isinstance(value, dict) else None

    assert keys(template(dark=True)) == keys(template())
    assert template(dark=True) != template()


@pytest.mark.parametrize("reads_chinese", [True, False])
def test_chinese_examples_are_for_models_that_read_chinese(reads_chinese: bool) -> None:
    questions = assets.example_questions(reads_chinese)
    assert len(questions) >= 5
    assert any("\u4e00" <= char <= "\u9fff" for char in "".join(questions)) == reads_chinese


def unpacked(value: str) -> tuple[str, bytes]:
    file = json.loads(value)
    return file["name"], base64.b64decode(file["content"])


def test_the_downloads_hold_the_trace(tmp_path: Path) -> None:
    session = Session(trace=fake_trace(12))
    assert session.trace is not None
    name, content = unpacked(downloads.trace_file(session))
    assert name == "molora-trace.npz"
    loaded = RoutingTrace.load(io.BytesIO(content))
    np.testing.assert_array_equal(loaded.expert_ids, session.trace.expert_ids)
    name, content = unpacked(downloads.summary_file(session))
    assert json.loads(content)["num_tokens"] == 12
    name, content = unpacked(downloads.table_file(session))
    assert name == "molora-table.csv"
    assert len(pd.read_csv(io.BytesIO(content))) == session.trace.expert_ids.size
    name, content = unpacked(downloads.report_file(session))
    assert name == "molora-report.html"
    assert trace_of(content.decode()).token_text == session.trace.token_text


@pytest.mark.parametrize("tab", ["map", "token", "load"])
def test_an_edit_is_marked_wherever_the_answer_goes(tab: Tab) -> None:
    fake, session = FakeEngine(meta={"edit": {"words": "without expert 3", "rules": []}}), Session(tab=tab)
    session.ask("Why?")
    for _ in reply(fake.engine, session, Sampling()):
        pass
    panel = column(layers=4)
    assert session.turns[-1].mark == "edited: without expert 3"
    assert "Edited: without expert 3" in str(panel.draw(session))
    for make in (downloads.table_file, downloads.summary_file, downloads.report_file):
        assert "without expert 3" in unpacked(make(session))[1].decode()
    assert "edited: without expert 3" in downloads.current_figure(session, panel.atlas).to_json()
    assert list(ask_endpoint(fake.coming, 16)("Why?"))[-1]["edit"] == "without expert 3"
    plain = FakeEngine()
    assert list(ask_endpoint(plain.coming, 16)("Why?"))[-1]["edit"] is None


@pytest.mark.parametrize("tab", TABS)
def test_the_figure_is_one_file_that_needs_no_network(tab: Tab) -> None:
    session = Session(trace=fake_trace(["<script>", "</script>", " x", " y"], template=0, prompt=2), tab=tab)
    name, content = unpacked(downloads.figure_file(session, column(layers=4).atlas))
    page = content.decode()
    assert name == f"molora-{tab}.html"
    assert len(page) > 3_000_000  # plotly.js is inside
    assert "<script src=" not in page
    assert "</script> x" not in page


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        app.arguments(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for option in ("model", "base", "quantize", "device", "host", "port", "share", "max-new-tokens"):
        assert f"--{option}" in text


def test_what_a_user_can_mend_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert app.main(["--model", "./nowhere"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("app.py: ")
    assert "nowhere" in said
    assert "Traceback" not in said


def test_the_number_of_tokens_must_be_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        app.arguments(["--max-new-tokens", "0"])
    assert "not a whole number above 0" in capsys.readouterr().err


def test_error_of_the_engine_is_one_of_the_endpoint() -> None:
    refused = ask_endpoint(FakeEngine(error=MoloraError("Too long.")).coming, 16)
    with pytest.raises(gr.Error, match=r"Too long\."):
        list(refused("Why?"))
    with pytest.raises(gr.Error, match=r"Type a question first\."):
        list(refused("  "))


def test_the_endpoint_gives_experts_layer_by_layer() -> None:
    fake = FakeEngine(answer=[" a"] * 5)
    last = list(ask_endpoint(fake.coming, 16)("Why not?", max_new_tokens=4))[-1]
    ids = np.load(io.BytesIO(base64.b64decode(last["routed_experts"])), allow_pickle=False)
    assert last["answer"] == " a a a a"
    assert ids.dtype == np.int16
    assert ids.shape == (len(last["tokens"]), 4 * 3, 2)
    assert fake.settings["repetition_penalty"] == 1.15


def test_without_the_internet_share_says_so_and_the_page_stays(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object) -> str:
        raise RuntimeError("Could not get share link\nfrom the server.")

    monkeypatch.setattr(networking, "setup_tunnel", unreachable)
    page = app.build(FakeEngine().engine)
    warm, said = threading.Event(), ""
    address = serve.launch(page, host="127.0.0.1", port=None, share=True, block=False, meanwhile=warm.set)
    try:
        assert warm.is_set()
        for _ in range(100):  # the tunnel keeps nothing waiting
            said += capsys.readouterr().out
            if said.count("\n") == 2:
                break
            time.sleep(0.05)
        assert said.splitlines() == [
            f"MoLoRA Lens is at {address}",
            f"No public address: Could not get share link from the server. The page at {address} stays up.",
        ]
        with urllib.request.urlopen(address) as answer:
            assert answer.status == 200
    finally:
        page.close(verbose=False)
