"""The page for a model whose routers are its own: one projection, layers without a router, shared experts."""

from __future__ import annotations

from dataclasses import replace

import gradio as gr

import app
from tests.fakes import INFO, FakeEngine, fake_trace
from viz.coming import Coming
from viz.panels.frame import Head
from viz.panels.routing import RoutingPanel
from viz.session import Session
from viz.view import View

NATIVE = replace(
    INFO,
    num_experts=64,
    top_k=6,
    num_layers=5,
    router_projections=("mlp",),
    router_layers=(1, 2, 3, 4),
    num_shared_experts=2,
    adapter_sha256="",
    is_demo=False,
)


def test_the_head_tells_shared_experts_and_which_layers_have_routers() -> None:
    shown = Head(Coming(NATIVE), None).html.value
    for chip in ("64 experts, top-6", "2 shared, always on", "4 of 5 layers"):
        assert f"<span>{chip}</span>" in shown
    assert "shared" not in Head(Coming(INFO), None).html.value
    assert "<span>4 layers × 3</span>" in Head(Coming(INFO), None).html.value


def test_all_tabs_draw_a_trace_of_one_projection() -> None:
    assert app.build(FakeEngine(info=NATIVE).engine).fns
    with gr.Blocks(analytics_enabled=False):
        panel = RoutingPanel(NATIVE.layers, NATIVE.num_experts, NATIVE.projections)
    trace = replace(
        fake_trace(20, layers=4, projections=("mlp",), experts=64, top_k=6),
        layer_indices=fake_trace(1, layers=5).layer_indices[1:],
    )
    session = Session(trace=trace)
    panel.controls.changed(session, "1-3", "mlp", "both", "expert")
    assert session.view == View(layers=(1, 2, 3))
    for tab in panel.tabs:
        session.tab = tab
        assert len(panel.draw(session)) == len(panel.outputs)
