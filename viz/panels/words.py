"""The run's summary in sentences to quote: a panel by the summary line, made when it is opened."""

from __future__ import annotations

import json

import gradio as gr

from molora.summary import summary
from viz.assets import js
from viz.figures.edit_words import edit_words
from viz.figures.words import summary_words
from viz.language import t
from viz.panels.events import QUICK
from viz.panels.wording import worded
from viz.session import Session
from viz.view import shown_tokens


class Words:
    """The button and its panel; their event is `tell`."""

    def __init__(self) -> None:
        self.panel = worded(
            lambda: {"said": _panel()},
            gr.HTML,
            "",
            html_template="${said}",
            js_on_load=js("words"),
            elem_classes="choice",
            apply_default_css=False,
        )

    def wire(self, state: gr.State) -> None:
        self.panel.tell(self.told, state, self.panel, **QUICK)

    @staticmethod
    def told(session: Session) -> str:
        """JSON of the sentences about what the view shows."""
        if session.trace is None:
            return _packed(summary_words(None))
        trace = session.view.cut(session.trace)
        numbers = summary(trace, shown_tokens(trace, session.view.show))
        return _packed(summary_words(numbers, model=str(trace.meta.get("model", "")), edit=edit_words(trace)))


def _panel() -> str:
    return (
        '<button type="button" id="run-words" aria-expanded="false" aria-controls="run-words-panel">'
        f'{t("In words")} <span aria-hidden="true">▾</span></button>'
        f'<div id="run-words-panel" role="group" aria-label="{t("The run in words")}" hidden><ul></ul>'
        f'<button type="button" id="copy-words" data-done="{t("Copied.")}" '
        f'data-failed="{t("The browser does not allow it; select the text instead.")}">{t("Copy")}</button>'
        '<span role="status"></span></div>'
    )


def _packed(sentences: list[str]) -> str:
    """The browser shows them as text; escaped all the same, so that nothing on the way takes them for markup."""
    return json.dumps(sentences).replace("<", "\\u003c")
