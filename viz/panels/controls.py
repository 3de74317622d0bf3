"""What to see: layers, projection, prompt or answer, and what colour means."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr

from viz.figures.style import short
from viz.session import Session
from viz.view import Shape, chosen_colour, chosen_show, layer_choices, parse_layers


class Controls:
    """The choices in one row; `changed` reads them all into the session's view.

    What layers and projections there are to choose from is the model's, or that of a trace out of a file.
    """

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        with gr.Row(elem_classes="controls"):
            self.layers = gr.Dropdown(
                layer_choices(shape.layers),
                value="all",
                label="Layers",
                allow_custom_value=True,
                elem_id="layers",
            )
            names = _projections(shape)
            self.projection = gr.Radio(names, value=names[0], label="Projection", elem_id="projection")
            self.show = gr.Radio(["both", "prompt", "answer"], value="both", label="Show", elem_id="show")
            self.colour = gr.Radio(
                [("top expert", "expert"), ("its weight", "weight"), ("entropy", "entropy")],
                value="expert",
                label="Map colour",
                elem_id="colour",
            )
        self.inputs = [self.layers, self.projection, self.show, self.colour]
        self.outputs = [self.layers, self.projection]

    def offered(self, shape: Shape) -> list[Any]:
        """Values of `outputs` that offer what a trace of this shape has; all of it is chosen."""
        names = _projections(shape)
        return [gr.update(choices=layer_choices(shape.layers), value="all"), gr.update(choices=names, value=names[0])]

    def changed(self, session: Session, layers: str | None, projection: str, show: str, colour: str) -> None:
        """Raises MoloraError for what cannot be read; the view then stays as it was."""
        shape = session.shape or self.shape
        known = {short(name): name for name in shape.projections}
        session.view = replace(
            session.view,
            layers=parse_layers(str(layers or ""), shape.layers),
            projections=(known[projection],) if projection in known and len(known) > 1 else None,
            show=chosen_show(show),
            colour=chosen_colour(colour),
        )


def _projections(shape: Shape) -> list[str]:
    names = [short(name) for name in shape.projections]
    return names if len(names) == 1 else ["all", *names]
