"""What to see: layers, projection, prompt or answer, and what colour means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import gradio as gr

from viz.figures.style import short
from viz.session import Session
from viz.view import chosen_colour, chosen_show, layer_choices, parse_layers


class Controls:
    """The choices in one row; `changed` reads them all into the session's view."""

    def __init__(self, layers: Sequence[int], projections: tuple[str, ...]) -> None:
        self.known_layers = layers
        self.projections = {short(name): name for name in projections}
        with gr.Row(elem_classes="controls"):
            self.layers = gr.Dropdown(
                layer_choices(layers),
                value="all",
                label="Layers",
                allow_custom_value=True,
                elem_id="layers",
            )
            names = list(self.projections) if len(projections) == 1 else ["all", *self.projections]
            self.projection = gr.Radio(names, value=names[0], label="Projection", elem_id="projection")
            self.show = gr.Radio(["both", "prompt", "answer"], value="both", label="Show", elem_id="show")
            self.colour = gr.Radio(
                [("top expert", "expert"), ("its weight", "weight"), ("entropy", "entropy")],
                value="expert",
                label="Map colour",
                elem_id="colour",
            )
        self.inputs = [self.layers, self.projection, self.show, self.colour]

    def changed(self, session: Session, layers: str | None, projection: str, show: str, colour: str) -> None:
        """Raises MoloraError for what cannot be read; the view then stays as it was."""
        chosen = self.projections.get(projection)
        session.view = replace(
            session.view,
            layers=parse_layers(str(layers or ""), self.known_layers),
            projections=None if chosen is None or len(self.projections) == 1 else (chosen,),
            show=chosen_show(show),
            colour=chosen_colour(colour),
        )
