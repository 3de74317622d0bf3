"""Files that visitors open: what opens is explored whatever its size, what does not leaves everything as it was."""

from __future__ import annotations

import base64
import io
import json
from types import SimpleNamespace
from typing import Any, cast, get_args

import gradio as gr
import numpy as np
import pytest

from molora import opening
from molora.errors import MoloraError
from molora.trace import RoutingTrace
from tests.fake_atlas import fake_atlas
from tests.fakes import INFO, fake_trace
from viz import opened
from viz.incoming import incoming
from viz.opened import read_file, said, show
from viz.panels import downloads
from viz.panels.opening import Opening
from viz.panels.routing import RoutingPanel
from viz.session import Session, Tab, Turn
from viz.view import View

CHAT = ["<|im_start|>", "system\n", "Be brief.<|im_end|>", "<|im_start|>user\n", "Why", "?", "<|im_end|>\n",
        "<|im_start|>assistant\n", "So", "."]  # fmt: skip


def chat(**sizes: Any) -> RoutingTrace:
    trace = fake_trace(CHAT, **sizes)
    trace.phase = np.array([0, 0, 0, 0, 1, 1, 0, 0, 2, 2], np.uint8)
    trace.meta = {"model": "other"}
    return trace


def bytes_of(trace: RoutingTrace) -> bytes:
    file = io.BytesIO()
    trace.save(file)
    return file.getvalue()


def event(name: Any = "run.npz", content: bytes = b"") -> gr.EventData:
    """Of a file that has arrived."""
    return cast(gr.EventData, SimpleNamespace(name=name, word=incoming.put(content)))


def column() -> RoutingPanel:
    with gr.Blocks(analytics_enabled=False):
        return RoutingPanel(range(4), 8, INFO.projections, fake_atlas(layers=4))


def test_question_and_answer_are_read_off_the_tokens() -> None:
    assert said(chat()) == [("user", "Why?"), ("assistant", "So.")]


def test_roles_are_those_that_the_template_names() -> None:
    texts = ["<system>", "Be brief", "<user>", "A", "<assistant>", "B", "<user>", "C", "<assistant>", "D"]
    trace = fake_trace(texts)
    trace.phase = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 2], np.uint8)
    roles = [("note", "System: Be brief"), ("user", "A"), ("assistant", "B"), ("user", "C"), ("assistant", "D")]
    assert said(trace) == roles
    assert said(fake_trace(["a", " text"], template=0, prompt=2)) == [("user", "a text")]
    assert said(fake_trace([])) == []


def test_an_opened_file_is_marked_and_the_model_never_reads_it() -> None:
    session = Session(turns=[Turn("user", "Mine"), Turn("assistant", "Yours")])
    Opening.opened(session, event(content=bytes_of(chat())))
    assert [turn.content for turn in session.turns[:4]] == ["Mine", "Yours", "Why?", "So."]
    assert [turn.mark for turn in session.turns] == ["", "", "imported", "imported", ""]
    assert "trace of the model other with 4 layers × 3, 8 experts, top-2" in session.turns[-1].content
    assert session.messages() == [{"role": "user", "content": "Mine"}, {"role": "assistant", "content": "Yours"}]
    assert session.kept() == [(turn.role, turn.content, turn.mark) for turn in session.turns[2:]]
    assert session.retract() == "Mine"


def test_another_file_takes_the_place_of_the_first() -> None:
    session = Session(turns=[Turn("user", "Mine")])
    for name in ("one.npz", "two.npz"):
        show(session, chat(), name)
    assert [turn.content.partition(":")[0] for turn in session.turns] == [
        "Mine",
        "Why?",
        "So.",
        "Imported from two.npz",
    ]


def test_an_edit_of_an_opened_trace_is_marked() -> None:
    trace, session = chat(), Session()
    trace.meta["edit"] = {"words": "without expert 3"}
    show(session, trace, "run.npz")
    assert session.turns[1].mark == "imported, edited: without expert 3"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.npz", b"PK\x03\x04 nothing", r"a\.npz is no trace, or is damaged"),
        ("a.txt", b"hello", "holds no trace"),
        ("a.jpg", b"\xff\xd8\xff", r"a\.jpg is neither a trace"),
        (3, b"", "did not arrive"),
    ],
)
def test_a_bad_file_is_named_and_nothing_is_lost(name: Any, content: bytes, words: str) -> None:
    session = Session(turns=[Turn("user", "Mine")], trace=fake_trace(9), chosen=3)
    before = (session.trace, list(session.turns), session.chosen)
    with pytest.raises(MoloraError, match=words):
        Opening.opened(session, event(name, content))
    assert (session.trace, session.turns, session.chosen) == before


@pytest.mark.parametrize(
    ("word", "words"),
    [("", "a.npz is empty, or larger than 64 MB"), ("unknown", "did not arrive"), (None, "did not arrive"), (3, "did")],
)
def test_a_file_that_is_not_there_is_said(word: Any, words: str) -> None:
    with pytest.raises(MoloraError, match=words):
        Opening.opened(Session(), cast(gr.EventData, SimpleNamespace(name="a.npz", word=word)))


def test_nothing_opens_into_a_running_answer() -> None:
    with pytest.raises(MoloraError, match="still being written"):
        Opening.opened(Session(running=True), event(content=bytes_of(chat())))


def test_what_is_too_large_is_not_even_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "MAX_BYTES", 30)
    with pytest.raises(MoloraError, match="too large"):
        read_file("big.npz", bytes_of(chat()))
    assert opening.MAX_BYTES == 64 * 2**20


@pytest.mark.parametrize("tab", get_args(Tab))
@pytest.mark.parametrize(
    "sizes",
    [
        {"layers": 2, "projections": ("mlp",), "experts": 60, "top_k": 4},
        {"layers": 9, "experts": 3, "top_k": 1},
        {"projections": (), "experts": 1, "top_k": 0},
    ],
)
def test_a_trace_of_another_size_is_drawn_with_controls_of_its_own(tab: Tab, sizes: dict[str, Any]) -> None:
    panel, session = column(), Session(tab=tab, view=View(layers=(3,), projections=("up_proj",)))
    show(session, chat(**sizes), "run.npz")
    values = panel.draw(session)
    assert len(values) == len(panel.outputs)
    layers, projection, legend = values[-3:]
    assert len([value for _, value in layers["choices"] if value.isdigit()]) == sizes.get("layers", 4)
    assert [value for _, value in projection["choices"]] == {1: ["mlp"], 3: ["all", "gate", "up", "down"], 0: ["all"]}[
        len(sizes.get("projections", INFO.projections))
    ]
    assert f"experts 0 to {sizes['experts'] - 1}" in legend
    assert session.view == View()
    assert panel.draw(session)[-3:] == [gr.skip()] * 3
    session.clear()
    assert [value for _, value in panel.draw(session)[-3]["choices"]] == ["all", "0", "1", "2", "3"]


def test_layers_that_an_opened_trace_lacks_are_refused() -> None:
    panel, session, trace = column(), Session(), chat()
    trace.layer_indices = np.array([0, 5, 9, 20], np.int16)
    show(session, trace, "run.npz")
    panel.draw(session)
    panel.controls.changed(session, "5, 20", "up", "both", "expert")
    assert session.view == View(layers=(5, 20), projections=("up_proj",))
    session.tab = "atlas"
    panel.draw(session)
    panel.controls.changed(session, "5-9", "up", "both", "expert")
    assert session.view.layers == (5, 9), "a span passes over what is not there"
    with pytest.raises(MoloraError, match="layers 0 to 20; '6' is not among them"):
        panel.controls.changed(session, "6", "up", "both", "expert")


def test_the_atlas_of_another_model_says_so() -> None:
    panel, session, trace = column(), Session(tab="atlas"), chat()
    trace.meta["adapter_sha256"] = "another"
    show(session, trace, "run.npz")
    assert "of another model than the atlas" in str(panel.draw(session))


def test_a_report_of_the_page_opens_again() -> None:
    session, again = Session(turns=[Turn("user", "Why?"), Turn("assistant", "So.")], trace=chat()), Session()
    name, content = json.loads(downloads.report_file(session))["name"], json.loads(downloads.report_file(session))
    Opening.opened(again, event(name, base64.b64decode(content["content"])))
    assert again.trace is not None
    assert again.trace.token_text == CHAT
    assert [turn.content for turn in again.turns[:2]] == ["Why?", "So."]
