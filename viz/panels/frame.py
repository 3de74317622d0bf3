"""The page's head and foot: what answers here, and what it is not."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import gradio as gr

from viz.assets import js
from viz.language import spoken, t, tn
from viz.panels.wording import worded

if TYPE_CHECKING:
    from molora.engine import EngineInfo


def head(info: EngineInfo, reason: str | None) -> gr.HTML:
    """Title, one chip a fact about the model, and the switches of language, with the event `speak`, and of light.

    reason: why this model was chosen, where nobody named one.
    """
    return worded(
        lambda: {"value": _head(info, reason)},
        gr.HTML,
        js_on_load=js("language"),
        elem_id="head",
        apply_default_css=False,
    )


def _head(info: EngineInfo, reason: str | None) -> str:
    count = len(info.layers)
    if 0 < count < info.num_layers:  # the others have no router
        layers = t("{count} of {all} layers", count=count, all=info.num_layers)
    else:
        layers = tn("{n} layer", "{n} layers", info.num_layers)
    experts = t("{experts} experts, top-{k}", experts=info.num_experts, k=info.top_k)
    precision = info.precision
    if info.prompts_in_4bit:
        precision = t("4 bits")
    elif info.decodes_in_4bit:
        precision = t("{weights}, decode in 4 bits", weights=info.weights)
    chips = [info.model, precision, info.device, experts]
    if info.num_shared_experts:
        chips.append(t("{count} shared, always on", count=info.num_shared_experts))
    chips.append(layers if len(info.projections) == 1 else f"{layers} × {len(info.projections)}")
    shown = "".join(f"<span>{escape(chip)}</span>" for chip in chips)
    because = escape(t("Chosen because {reason}", reason=reason)) if reason else ""
    why = f'<div class="why" title="{because}">{because}</div>' if reason else ""
    return (
        f'<h1>MoLoRA Lens</h1><div class="chips" role="group" aria-label="{t("Model")}">{shown}</div>{why}{_switch()}'
        f'<button type="button" id="theme-toggle" aria-label="{t("Switch between light and dark")}">◐</button>'
    )


def _switch() -> str:
    """Says in both languages what it does: who needs it may not read the page."""
    if spoken() == "zh":
        to, name, shown = "en", "语言：中文。Switch to English", "EN / <b>中文</b>"
    else:
        to, name, shown = "zh", "Language: English. 切换到中文", "<b>EN</b> / 中文"
    return f'<button type="button" id="language" data-to="{to}" aria-label="{name}" title="{name}">{shown}</button>'


def foot(info: EngineInfo) -> gr.HTML:
    """The demo notice, no medical advice, how to load MING-MOE."""
    return worded(lambda: {"value": _foot(info)}, gr.HTML, elem_id="foot", apply_default_css=False)


def _foot(info: EngineInfo) -> str:
    words = [t("<b>No medical advice.</b> Answers come from a language model and can be wrong.")]
    if info.is_demo:
        words.append(
            t("This is a 135M-parameter English demo, not MING-MOE. With a CUDA GPU:")
            + " <code>python app.py --model BlueZeros/MING-MOE-7B</code>"
        )
    return " ".join(f"<span>{text}</span>" for text in words)
