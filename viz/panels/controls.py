"""What to see: layers, projection, prompt or answer, and what colour means."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr

from viz.figures.style import short
from viz.language import noted, t
from viz.panels.wording import worded
from viz.session import Session
from viz.view import Shape, chosen_colour, chosen_show, layer_choices, parse_layers

_GROUPS = (noted("all"), noted("early"), noted("middle"), noted("late"))
"""What a menu's entries for layers may begin with"""


class Controls:
    """The choices in one row; `changed` reads them all into the session's view.

    What layers and projections there are to choose from is the model's, or that of a trace out of a file.
    """

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        with gr.Row(elem_classes="controls"):
            self.layers = worded(
                lambda: {"label": t("Layers"), "choices": layer_offers(shape)},
                gr.Dropdown,
                value="all",
                allow_custom_value=True,
                elem_id="layers",
            )
            self.projection = worded(
                lambda: {"label": t("Projection"), "choices": _projections(shape)},
                gr.Radio,
                value=_projections(shape)[0][1],
                elem_id="projection",
            )
            self.show = worded(
                lambda: {
                    "label": t("Show"),
                    "choices": [(t("both"), "both"), (t("prompt"), "prompt"), (t("answer"), "answer")],
                },
                gr.Radio,
                value="both",
                elem_id="show",
            )
            self.colour = worded(
                lambda: {
                    "label": t("Map colour"),
                    "choices": [(t("top expert"), "expert"), (t("its weight"), "weight"), (t("entropy"), "entropy")],
                },
                gr.Radio,
                value="expert",
                elem_id="colour",
            )
        self.inputs = [self.layers, self.projection, self.show, self.colour]
        self.outputs = [self.layers, self.projection]

    def offered(self, shape: Shape) -> list[Any]:
        """Values of `outputs` that offer what a trace of this shape has; all of it is chosen."""
        layers, names = self.reworded(shape)
        return [layers | {"value": "all"}, names | {"value": _projections(shape)[0][1]}]

    @staticmethod
    def reworded(shape: Shape) -> list[Any]:
        """The same in the language of now, with what is chosen left as it is."""
        return [gr.update(choices=layer_offers(shape)), gr.update(choices=_projections(shape))]

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


def layer_offers(shape: Shape) -> list[tuple[str, str]]:
    """(label, value) of the layer menu; the value is what `parse_layers` reads."""
    return [(_label(value), value) for value in layer_choices(shape.layers)]


def _label(value: str) -> str:
    name, space, span = value.partition(" ")
    return (t(name) if name in _GROUPS else name) + space + span


def _projections(shape: Shape) -> list[tuple[str, str]]:
    names = [(short(name), short(name)) for name in shape.projections]
    return names if len(names) == 1 else [(t("all"), "all"), *names]
