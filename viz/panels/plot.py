"""A Plotly figure on the page that is redrawn in place.

`gr.Plot` builds its element anew for each value, which loses the reader's zoom and flickers. Here one element stays and
`Plotly.react` changes it; the figure travels as JSON, and dark mode swaps its template in the browser.
"""

from __future__ import annotations

import json

import gradio as gr
import plotly.graph_objects as go

from viz.assets import PLOTLY_JS, js
from viz.figures.style import template
from viz.language import t
from viz.panels.wording import worded


def plot(figure: go.Figure, *, name: str, label: str, keys: bool = False) -> gr.HTML:
    """A figure's place on the page; its events: `cell`, with `row`, `y` and `name`: a clicked point's x, y, and curve.

    Args:
        name: the element's id.
        label: what a screen reader says of it, in English.
        keys: whether arrow keys walk over its cells; then there is also `turn`, with `to`: "back" or "on".
    """
    role = 'role="application" tabindex="0"' if keys else 'role="img"'
    constants = f"const DARK = {json.dumps(template(dark=True))}, KEYS = {json.dumps(keys)};"
    gr.set_static_paths(PLOTLY_JS)
    return worded(
        lambda: {"label": t(label)},
        gr.HTML,
        packed(figure),
        html_template=f'<div class="plot" {role}></div>',  # the script writes the label: the figure's element stays
        js_on_load=f"{constants}\n{js('marks')}\n{js('plot')}",
        head=f'<script src="gradio_api/file={PLOTLY_JS.as_posix()}"></script>',
        apply_default_css=False,
        elem_id=name,
        elem_classes="figure",
    )


def packed(figure: go.Figure) -> str:
    """What goes over the wire; arrays inside are base64 of their bytes."""
    return figure.to_json()
