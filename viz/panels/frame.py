"""The page's head and foot: what answers here, and what it is not."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from viz.assets import js
from viz.coming import Coming
from viz.language import spoken, t, tn
from viz.panels.events import QUICK
from viz.panels.wording import worded
from viz.session import Session

if TYPE_CHECKING:
    from molora.engine import EngineInfo


class Head:
    """Title, one chip a fact about the model, and the switches of language, with the event `speak`, and of light."""

    def __init__(self, coming: Coming, reason: str | None) -> None:
        """reason: why this model was chosen, where nobody named one."""
        self._coming, self._reason = coming, reason
        self.html = worded(
            lambda: {"value": self._said()},
            gr.HTML,
            js_on_load=js("language"),
            elem_id="head",
            apply_default_css=False,
        )

    def wire(self, page: gr.Blocks, state: gr.State) -> None:
        """A page that is opened before the model is loaded asks every second whether it is; later ones know."""
        if self._coming.here():
            return
        looks = gr.Timer(1)

        def arrived(session: Session) -> list[Any]:
            return [self._said(), gr.Timer(active=False)] if self._coming.here() else [gr.skip(), gr.skip()]

        def settled() -> None:
            self.html.value, looks.active = self._said(), False
            page.config = page.get_config_file()  # what a page is opened with

        looks.tick(arrived, state, [self.html, looks], **QUICK)
        self._coming.then(settled)

    def _said(self) -> str:
        return _head(self._coming.info, self._reason)


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
    chips = [info.model, precision, info.device, experts] if info.is_loaded else [info.model, experts]
    if info.num_shared_experts:
        chips.append(t("{count} shared, always on", count=info.num_shared_experts))
    chips.append(layers if len(info.projections) == 1 else f"{layers} × {len(info.projections)}")
    shown = "".join(f"<span>{escape(chip)}</span>" for chip in chips)
    if not info.is_loaded:
        shown += f'<span class="coming">{t("loading…")}</span>'
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
