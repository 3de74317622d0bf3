"""The page before its model is loaded, and at the moment when it is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

import app
from molora.engine import Engine
from molora.errors import MoloraError
from tests.fakes import INFO, FakeEngine
from viz.api import ask_endpoint
from viz.coming import Coming
from viz.panels.frame import Head
from viz.session import Session

AHEAD = replace(INFO, quantization="", dtype="", device="")


def test_whoever_needs_the_engine_waits_for_it() -> None:
    fake, coming = FakeEngine(), Coming(AHEAD)
    assert not coming.here(0.01)
    got: list[Engine] = []
    waiting = threading.Thread(target=lambda: got.append(coming.engine))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    coming.arrive(fake.engine)
    waiting.join(5)
    assert got == [fake.engine]
    assert coming.here()
    assert coming.info == INFO


def test_what_is_to_be_done_then_is_done_once_whenever_it_was_asked_for() -> None:
    done: list[str] = []
    coming = Coming(AHEAD)
    coming.then(lambda: done.append("before"))
    assert not done
    coming.arrive(FakeEngine().engine)
    coming.then(lambda: done.append("after"))
    assert done == ["before", "after"]


def test_the_head_says_that_the_model_is_loading_and_then_what_it_is() -> None:
    coming = Coming(AHEAD)
    with gr.Blocks() as page:
        head = Head(coming, None)
        head.wire(page, gr.State(Session()))
    assert "loading…" in head.html.value
    assert "<span>fake</span>" in head.html.value
    assert "float32" not in head.html.value
    (tick,) = page.fns.values()
    assert tick.fn is not None
    assert tick.fn(Session()) == [gr.skip(), gr.skip()]
    coming.arrive(FakeEngine().engine)
    shown, timer = tick.fn(Session())
    assert "loading…" not in shown
    assert "<span>float32</span><span>cpu</span>" in shown
    assert not timer.active
    opened = _values(page)
    assert shown in opened  # by whoever comes later
    assert "Timer" not in str(opened)


def _values(page: gr.Blocks) -> list[Any]:
    return [part["props"].get("value") for part in page.config["components"]]


def test_a_question_waits_for_the_engine() -> None:
    fake, coming = FakeEngine(), Coming(AHEAD)
    answers = ask_endpoint(coming, 16)("Why?")
    threading.Timer(0.05, lambda: coming.arrive(fake.engine)).start()
    assert list(answers)[-1]["answer"] == " It depends."


def test_a_question_that_is_stopped_while_the_engine_loads_is_not_answered() -> None:
    fake, coming, session = FakeEngine(), Coming(AHEAD), Session()
    page = app.build(coming)
    answer = next(fn.fn for fn in page.fns.values() if fn.fn is not None and fn.fn.__name__ == "answer")
    session.ask("Why?")
    steps: Iterator[list[Any]] = answer(session, 16, 0, 1, 1, 0)
    threading.Timer(0.05, lambda: setattr(session, "waiting", False)).start()
    assert all(update == gr.skip() for values in steps for update in values)
    coming.arrive(fake.engine)
    assert fake.asked == []


def test_an_engine_that_cannot_be_loaded_ends_the_program(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def damaged(*_: object, **__: object) -> Engine:
        raise MoloraError("It is damaged.")

    monkeypatch.setattr("molora.loading.load", damaged)
    assert app.main(["--model", str(checkpoint)]) == 2
    said = capsys.readouterr()
    assert said.out.startswith("MoLoRA Lens is at http://127.0.0.1:")
    assert said.err == "app.py: It is damaged.\n"
    gr.close_all()


def test_an_interrupted_start_ends_without_a_word(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> Engine:
        raise KeyboardInterrupt

    monkeypatch.setattr("molora.loading.load", interrupted)
    assert app.main(["--model", str(checkpoint)]) == 130
    assert capsys.readouterr().err == ""
    gr.close_all()
