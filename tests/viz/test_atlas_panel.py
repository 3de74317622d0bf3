"""The Atlas tab: whose atlas is shown, what follows the view, what is said where there is none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from molora.atlas.data import Atlas
from tests.fake_atlas import fake_atlas
from tests.fakes import INFO, fake_trace
from viz.panels.atlas import AtlasPanel, atlas_of
from viz.session import Session
from viz.view import View


def panel(atlas: Atlas | str) -> AtlasPanel:
    with gr.Blocks(analytics_enabled=False):
        return AtlasPanel(atlas)


def drawn(session: Session, atlas: Atlas | None = None) -> tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]:
    title, *figures = panel(atlas or fake_atlas()).draw(session)
    tasks, near, known = map(json.loads, figures)
    return title, tasks, near, known


def test_an_atlas_is_shown_for_its_own_adapter_alone(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    fake_atlas().save(tmp_path / "demo/atlas.npz")
    assert isinstance(atlas_of(INFO, tmp_path), Atlas)
    other = atlas_of(replace(INFO, adapter_sha256="1" * 64, model="<b>me</b>"), tmp_path)
    assert isinstance(other, str)
    assert "python -m molora.atlas --model &lt;b&gt;me&lt;/b&gt; --data DATA" in other
    assert "no routers" in str(atlas_of(replace(INFO, top_k=0), tmp_path))
    (tmp_path / "demo/atlas.npz").write_bytes(b"damage")
    assert "is no routing atlas" in str(atlas_of(INFO, tmp_path))


def test_without_an_atlas_nothing_is_redrawn() -> None:
    empty = panel("There is none.")
    assert empty.outputs == empty.draw(Session(trace=fake_trace(9))) == []
    assert empty.figure(Session()).layout.annotations[0].text == "There is no atlas of this model."


def test_the_view_decides_layers_projections_and_tokens() -> None:
    session = Session(trace=fake_trace(20))
    title, tasks, near, known = drawn(session)
    assert "4 tasks, 20 held-out prompts" in title
    assert "<b>100%</b> right, chance 25%" in title
    assert len(known["data"]) == 4
    session.view = View(layers=(1, 2), projections=("up_proj",), show="answer")
    changed = drawn(session)
    assert "One answer's routing" in changed[0]
    assert len(changed[3]["data"]) == 2
    for before, after in ((tasks["data"][1]["z"], changed[1]["data"][1]["z"]), (near, changed[2])):
        assert before != after
    assert "likeness of the answer" in json.dumps(changed[2])


@pytest.mark.parametrize(
    ("trace", "words"),
    [
        (None, "Ask something"),
        (fake_trace(3, template=3, prompt=0), "No token of the prompt"),
        (fake_trace(9, experts=5), "other layers, projections or experts"),
    ],
)
def test_a_conversation_without_a_place_is_told_why(trace: Any, words: str) -> None:
    assert words in json.dumps(drawn(Session(trace=trace))[2])
