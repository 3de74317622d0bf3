"""How the answer is sampled."""

from __future__ import annotations

import gradio as gr

from molora.sampling import Sampling
from viz.chat import bounded
from viz.language import t
from viz.panels.wording import worded

DEFAULT_NEW_TOKENS = 256


class Settings:
    """`inputs` are read by `sampling`, in the same order."""

    def __init__(self, most_new_tokens: int, penalty: float) -> None:
        self.most_new_tokens = most_new_tokens
        with worded(lambda: {"label": t("Settings")}, gr.Accordion, open=False, elem_classes="drawer"):
            with gr.Row():
                self.max_new_tokens = worded(
                    lambda: {"label": t("Max new tokens")},
                    gr.Slider,
                    1,
                    most_new_tokens,
                    min(DEFAULT_NEW_TOKENS, most_new_tokens),
                    step=1,
                    min_width=150,
                    elem_id="max-new-tokens",
                )
                self.temperature = worded(
                    lambda: {"label": t("Temperature, 0 is greedy")}, gr.Slider, 0, 2, 0, step=0.05, min_width=150
                )
            with gr.Row():
                self.top_p = gr.Slider(0.05, 1, 1, step=0.05, label="Top-p", min_width=100)
                self.repetition_penalty = worded(
                    lambda: {"label": t("Repetition penalty")}, gr.Slider, 1, 2, penalty, step=0.05, min_width=100
                )
                self.seed = worded(
                    lambda: {"label": t("Seed")}, gr.Number, 0, precision=0, minimum=0, maximum=2**31 - 1, min_width=80
                )
        self.inputs = [self.max_new_tokens, self.temperature, self.top_p, self.repetition_penalty, self.seed]

    def sampling(
        self, max_new_tokens: float, temperature: float, top_p: float, penalty: float, seed: float | None
    ) -> Sampling:
        return bounded(self.most_new_tokens, max_new_tokens, temperature, top_p, penalty, seed)
