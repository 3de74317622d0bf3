"""Open trace: a file of the visitor's, sent to the server's memory, to be explored without a run of the model."""

from __future__ import annotations

import gradio as gr

from molora.errors import MoloraError
from molora.opening import MAX_BYTES
from molora.trace import RoutingTrace
from viz.assets import js
from viz.chat import busy
from viz.incoming import PATH, incoming
from viz.language import noted, t
from viz.opened import read_file, show
from viz.panels.wording import worded
from viz.session import Session


class Opening:
    """Its event: `opened`, with `name` and `word`, what the server gave for the file; "" where the browser saw that it
    is too large or empty."""

    def __init__(self, name: str = "open", text: str = noted("Open trace")) -> None:
        """name: what the ids begin with; text: what stands on the button, in English."""
        self.button = worded(
            lambda: {
                "said": f'<button type="button" id="{name}-trace" title="'
                f'{t("A trace (.npz) or a report (.html), to explore without a run of the model")}">{t(text)}</button>'
                f'<input type="file" id="{name}-file" accept=".npz,.html,.htm" '
                f'aria-label="{t("Trace or report")}" hidden>'
            },
            gr.HTML,
            html_template="${said}",
            js_on_load=f"const MOST = {MAX_BYTES}, WHERE = '{PATH.lstrip('/')}';\n{js('opening')}",
            elem_classes="choice",
            apply_default_css=False,
        )

    @staticmethod
    def opened(session: Session, event: gr.EventData) -> None:
        """Shows the file. Raises MoloraError, and leaves the session as it is, for a file that cannot be opened."""
        show(session, *Opening.read(session, event))

    @staticmethod
    def read(session: Session, event: gr.EventData) -> tuple[RoutingTrace, str]:
        """The trace in the file, and its name. Raises MoloraError for a file that cannot be opened now."""
        name, word = event.name, event.word
        if isinstance(name, str) and not word and isinstance(word, str):
            raise MoloraError(t("{name} is empty, or larger than {most} MB.", name=name[:80], most=MAX_BYTES >> 20))
        content = incoming.take(word) if isinstance(word, str) else None
        if not isinstance(name, str) or content is None:
            raise MoloraError(t("The file did not arrive. Open it again."))
        if session.busy:
            raise MoloraError(busy())
        return read_file(name, content), name
