"""Components whose words follow the visitor's language, and the switch that changes them all.

A component is built by `worded` from a function that gives its words; the switch calls the function once more.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import gradio as gr
from gradio.blocks import Block

from viz.language import speaking
from viz.panels.events import EVERY
from viz.session import Session

Words = Callable[[], dict[str, Any]]
B = TypeVar("B", bound=Block)

_WORDS: WeakKeyDictionary[Block, Words] = WeakKeyDictionary()


def worded(words: Words, build: Callable[..., B], *given: Any, **fixed: Any) -> B:
    """`build` called with what is given and with the words; they are asked for again when the language changes."""
    block = build(*given, **fixed, **words())
    _WORDS[block] = words
    return block


def button(word: Callable[[], str], name: str, visible: bool = True) -> gr.Button:
    """A small button of a tab."""
    return worded(lambda: {"value": word()}, gr.Button, size="sm", min_width=0, scale=0, elem_id=name, visible=visible)


def wire_language(
    page: gr.Blocks, state: gr.State, switch: gr.HTML, redraw: Callable[[Session], list[Any]], drawn: list[Any]
) -> None:
    """Called last: every event of the page that knows the visitor answers in the visitor's language from here on.

    switch: its event `speak` carries `to`; redraw: values of `drawn`, which show more than words.
    """
    parts = [(block, _WORDS[block]) for block in page.blocks.values() if block in _WORDS]

    def speak(session: Session, event: gr.EventData) -> list[Any]:
        to = getattr(event, "to", None)
        if to not in ("en", "zh"):
            return [gr.skip()] * len(parts)
        session.language = to
        with speaking(to):
            return [gr.update(**words()) for _, words in parts]

    changed = switch.speak(speak, state, [block for block, _ in parts], **EVERY)
    changed.then(redraw, state, drawn, **EVERY)
    for event in page.fns.values():
        if event.fn is not None and event.fn is not speak and state in event.inputs:
            event.fn = in_language(event.fn)


def in_language(happened: Callable[..., Any]) -> Callable[..., Any]:
    """The handler, run in the language of the Session that it is given first."""

    @functools.wraps(happened)
    def answered(session: Session, *given: Any) -> Any:
        with speaking(session.language):
            return happened(session, *given)

    @functools.wraps(happened)
    def stepped(session: Session, *given: Any) -> Iterator[Any]:
        steps = happened(session, *given)
        try:
            while True:
                with speaking(session.language):  # it may change between two steps
                    try:
                        step = next(steps)
                    except StopIteration:
                        return
                yield step
        finally:
            steps.close()

    return stepped if inspect.isgeneratorfunction(happened) else answered
