"""A file that a visitor opens: a trace, or a report that holds one; and what was said in it.

The file comes through memory alone (`viz.incoming`), and is bounded before it is unpacked.
"""

from __future__ import annotations

import re
from itertools import groupby

from molora.errors import MoloraError
from molora.opening import MAX_BYTES, is_npz, open_trace
from molora.trace import ANSWER, TEMPLATE, RoutingTrace
from viz.figures.edit_words import edit_words
from viz.language import t
from viz.report import trace_of
from viz.session import Role, Session, Turn

_MODEL_CHARACTERS = 80
_ROLES = re.compile(r"system|user|assistant")


def read_file(name: str, content: bytes) -> RoutingTrace:
    """The trace in a `.npz` or in a report. Raises MoloraError for anything else and for more than 64 MB."""
    if len(content) > MAX_BYTES:
        raise MoloraError(
            t("{name} is too large; up to {most} MB can be opened.", name=name[:80], most=MAX_BYTES >> 20)
        )
    if is_npz(content):
        return open_trace(content, name)
    try:
        return trace_of(content.decode("utf-8"), name)
    except UnicodeDecodeError as error:
        raise MoloraError(
            t("{name} is neither a trace (.npz) nor a report (.html) of this program.", name=name[:80])
        ) from error


def show(session: Session, trace: RoutingTrace, name: str) -> None:
    """Puts the trace and what was said in it on the visitor's page, marked as not this model's."""
    model = str(trace.meta.get("model", "unknown"))[:_MODEL_CHARACTERS]
    mark = t("imported")
    if trace.edit:
        mark += ", " + t("edited: {edit}", edit=edit_words(trace))
    turns = [Turn(role, text, "" if role == "note" else mark, opened=True) for role, text in said(trace)]
    note = t(
        "Imported from {name}: a trace of the model {model} with {layers} layers × {projections}, {experts} experts, "
        "top-{k}. It is no part of this conversation, and the model does not read it.",
        name=name[:80],
        model=model,
        layers=trace.num_layers,
        projections=len(trace.projections),
        experts=trace.num_experts,
        k=trace.top_k,
    )
    session.open(trace, [*turns, Turn("note", note, opened=True)], t("Imported, model {model}", model=model))


def said(trace: RoutingTrace) -> list[tuple[Role, str]]:
    """(role, text) of the conversation in a trace. Roles are the last that the chat template named before a text."""
    turns: list[tuple[Role, str]] = []
    named = "user"
    for phase, rows in groupby(range(len(trace)), key=lambda row: int(trace.phase[row])):
        text = "".join(trace.token_text[row] for row in rows)
        if phase == TEMPLATE:
            named = next(reversed(_ROLES.findall(text)), "user")
        elif phase == ANSWER or named == "assistant":
            turns.append(("assistant", text))
        else:
            turns.append(("user", text) if named == "user" else ("note", t("System: {text}", text=text)))
    return turns
