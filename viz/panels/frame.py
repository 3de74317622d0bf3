"""The page's head and foot: what answers here, and what it is not."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import gradio as gr

if TYPE_CHECKING:
    from molora.engine import EngineInfo


def head(info: EngineInfo, reason: str | None) -> gr.HTML:
    """Title, one chip a fact about the model, and the light or dark switch.

    reason: why this model was chosen, where nobody named one.
    """
    layers = f"{info.num_layers} layers"
    if 0 < len(info.layers) < info.num_layers:  # the others have no router
        layers = f"{len(info.layers)} of {layers}"
    chips = [info.model, info.precision, info.device, f"{info.num_experts} experts, top-{info.top_k}"]
    if info.num_shared_experts:
        chips.append(f"{info.num_shared_experts} shared, always on")
    chips.append(layers if len(info.projections) == 1 else f"{layers} × {len(info.projections)}")
    shown = "".join(f"<span>{escape(chip)}</span>" for chip in chips)
    why = f'<div class="why" title="{escape(reason)}">Chosen because {escape(reason)}</div>' if reason else ""
    return gr.HTML(
        f'<h1>MoLoRA Lens</h1><div class="chips" aria-label="Model">{shown}</div>{why}'
        '<button type="button" id="theme-toggle" aria-label="Switch between light and dark">◐</button>',
        elem_id="head",
        apply_default_css=False,
    )


def foot(info: EngineInfo) -> gr.HTML:
    """The demo notice, no medical advice, how to load MING-MOE."""
    words = ["<b>No medical advice.</b> Answers come from a language model and can be wrong."]
    if info.is_demo:
        words.append(
            "This is a 135M-parameter English demo, not MING-MOE. With a CUDA GPU: "
            "<code>python app.py --model BlueZeros/MING-MOE-7B</code>."
        )
    return gr.HTML(" ".join(f"<span>{text}</span>" for text in words), elem_id="foot", apply_default_css=False)
