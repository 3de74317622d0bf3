"""The second of two runs side by side: what it shall be, and the run of the engine that makes it.

It reads the same conversation as the first one, under the same settings, but for the one thing that is chosen.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from molora.errors import MoloraError
from molora.sampling import Sampling
from molora.trace import RoutingTrace
from viz.chat import TIME_LIMIT_SECONDS, UPDATE_SECONDS, check_prompt
from viz.language import noted, t, tn
from viz.second import Other, Plan

if TYPE_CHECKING:
    from molora.edits import RoutingEdit
    from molora.engine import Engine
    from viz.session import Session

PRESETS = {
    "experts_off": noted("all experts off"),
    "attention_off": noted("attention LoRA off"),
    "base": noted("base model, both off"),
    "uniform": noted("uniform gates"),
}
ALONE = "alone:"
"""Before the number of an expert"""
AGAIN, OTHERWISE = "again", "otherwise"
"""The same question with another seed and temperature; another question"""


def choices(num_experts: int) -> list[tuple[str, str]]:
    """(label, value) of all that a second run can be; `plan` reads the values."""
    presets = [(_label(value), value) for value in PRESETS]
    alone = [(_label(f"{ALONE}{number}"), f"{ALONE}{number}") for number in range(num_experts)]
    return [*presets, (t("another seed or temperature"), AGAIN), (t("another question"), OTHERWISE), *alone]


def plan(session: Session, what: str, temperature: float, seed: float | None, question: str | None) -> Plan:
    """The second run that is chosen. A preset takes the place of an edit that the first run was made under; another
    seed or question keeps it.

    Raises MoloraError if there is no first run of this model, or another one is still under way.
    """
    trace = session.trace
    if session.busy or session.planned is not None:
        raise MoloraError(t("Something is still being written. Stop it, or wait for its end."))
    if session.opened:
        raise MoloraError(
            t("The trace on the page came out of a file. Open a second one beside it, or ask a question to compare.")
        )
    if trace is None:
        raise MoloraError(t("Ask something first: the second run reads the same conversation."))
    messages = session.messages()
    if messages[-1]["role"] == "assistant":
        messages.pop()
    sampling, edit = _sampling(trace), _edit(trace)
    if what == AGAIN:
        chosen = replace(
            sampling, temperature=float(min(max(temperature, 0), 2)), seed=int(min(max(seed or 0, 0), 2**31 - 1))
        )
        words = t("temperature {temperature:g}, seed {seed}", temperature=chosen.temperature, seed=chosen.seed)
        return Plan(words, messages, chosen, edit)
    if what == OTHERWISE:
        asked = check_prompt(question or "")
        return Plan(t("another question"), [*messages[:-1], {"role": "user", "content": asked}], sampling, edit)
    return Plan(_label(what), messages, sampling, preset(what))


def preset(what: str) -> RoutingEdit:
    """The edit of a preset's value. Raises MoloraError for an unknown one."""
    from molora.edits import RoutingEdit  # torch, which drawing does not need

    if what in PRESETS:
        made: RoutingEdit = getattr(RoutingEdit, what)()
        return made
    number = what.removeprefix(ALONE)
    if what == number or not number.isdecimal():
        raise MoloraError(t("There is no such second run: {what!r}.", what=what[:20]))
    return RoutingEdit.alone(int(number))


def run(engine: Engine, session: Session) -> Generator[str]:
    """Makes the planned run into `session.other`; yields how far it is, in words, a few times a second.

    Closing the generator, or taking `session.planned` away, stops the model before its next token and leaves the
    session without a new second run. Raises MoloraError for what the model refuses.
    """
    planned, first = session.planned, session.trace
    if planned is None:
        return
    begun = drawn = time.monotonic()
    try:
        settings = asdict(planned.sampling) | ({"edit": planned.edit} if planned.edit else {})
        with closing(engine.stream(planned.messages, **settings)) as steps:
            yield t("reading the conversation")
            for step in steps:
                now = time.monotonic()
                if session.planned is not planned:
                    return
                late = now - begun > TIME_LIMIT_SECONDS
                if step.finished or late:
                    cut = t(", stopped after {seconds:.0f} seconds", seconds=TIME_LIMIT_SECONDS) if late else ""
                    if session.trace is first:
                        session.other = Other(step.trace, step.text, planned.words + cut)
                    return
                if now - drawn >= UPDATE_SECONDS:
                    yield tn("{n} token of the answer", "{n} tokens of the answer", step.num_tokens)
                    drawn = time.monotonic()
    finally:
        if session.planned is planned:
            session.planned = None


def _label(what: str) -> str:
    return t(PRESETS[what]) if what in PRESETS else t("expert {number} alone", number=what.removeprefix(ALONE))


def _sampling(trace: RoutingTrace) -> Sampling:
    """How the first run was drawn."""
    told = trace.meta.get("sampling")
    return Sampling(**told) if isinstance(told, dict) else Sampling()


def _edit(trace: RoutingTrace) -> RoutingEdit | None:
    """What the first run was made under."""
    from molora.edits import RoutingEdit, Rule

    told = trace.meta.get("edit")
    rules = told.get("rules") if isinstance(told, dict) else None
    return RoutingEdit(tuple(Rule(**rule) for rule in rules)) if rules else None
