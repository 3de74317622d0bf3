"""Answers the last question once more under the visitor's edit, or switches each expert off in turn.

Like `reply`, these yield whenever the page should be redrawn, and stop the model when they are closed.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING, cast

from molora.effects import ablation, answer_logprobs, recorded_answer
from molora.errors import MoloraError
from molora.sampling import Sampling
from molora.trace import ANSWER, RoutingTrace
from viz.chat import TIME_LIMIT_SECONDS, busy, reply
from viz.figures.edit_words import one_rule
from viz.intervention import Task
from viz.language import t
from viz.session import Session, Turn

if TYPE_CHECKING:
    from molora.effects import Effect
    from molora.engine import Engine


def prepare(session: Session, task: Task, *, from_chosen: bool = False) -> None:
    """Asks for a task, which `intervene` then does. Raises MoloraError, and changes nothing, if it cannot be done."""
    edits = session.edits
    if session.busy:
        raise MoloraError(busy())
    if session.trace is None or session.opened or not recorded_answer(session.trace):
        raise MoloraError(t("Ask something first: an edit changes an answer of this conversation."))
    if task == "again" and not edits.rules:
        raise MoloraError(t("Add a rule first; the answer is then made once more under it."))
    edits.begun = _before(session.trace, session.chosen) if from_chosen else ()
    edits.original = edits.original or session.trace
    edits.task = task
    session.waiting, session.stopping = True, False


def _before(trace: RoutingTrace, row: int | None) -> tuple[int, ...]:
    """Ids of the answer's tokens before a chosen one, which is sampled anew."""
    if row is None or row >= len(trace) or trace.phase[row] != ANSWER:
        raise MoloraError(t("Choose a token of the answer first, in the strip or in the map."))
    return tuple(recorded_answer(trace.select(tokens=slice(row))))


def intervene(engine: Engine, session: Session, sampling: Sampling) -> Generator[None]:
    """Does what `prepare` asked for. A MoloraError of the engine becomes a note; trace and answers then stay."""
    task, session.edits.task = session.edits.task, None
    if task is None or not session.waiting:
        return
    if task == "sweep":
        yield from _sweep(engine, session)
    else:
        yield from _again(engine, session, sampling)


def _again(engine: Engine, session: Session, sampling: Sampling) -> Generator[None]:
    """First the changes of the original answer's tokens, then the new answer."""
    edits, edit, shown = session.edits, session.edits.edit(), session.trace
    turns = session.turns
    session.waiting, session.running = False, True
    try:
        yield
        messages, original = session.question(), cast(RoutingTrace, edits.original)
        ids = recorded_answer(original)
        before = answer_logprobs(engine, messages, ids)  # [A]
        change = answer_logprobs(engine, messages, ids, edit) - before  # [A]
        if not session.stopping:
            edits.change, edits.words = change, "; ".join(map(one_rule, edits.rules))
            session.waiting = True
    except MoloraError as error:
        turns.append(Turn("note", str(error)))
    finally:
        session.running = session.stopping = False
    if session.waiting:
        yield from reply(engine, session, sampling, edit=edit, begun=edits.begun)
    if session.trace is None and session.turns is turns:
        session.trace = shown
    yield


def _sweep(engine: Engine, session: Session) -> Generator[None]:
    edits, turns = session.edits, session.turns
    session.waiting, session.running = False, True
    edits.effects, edits.sweeping = [], True
    begun = time.monotonic()
    try:
        yield
        ids = recorded_answer(cast(RoutingTrace, edits.original))
        effects = ablation(engine, session.question(), ids, range(engine.info.num_experts), *edits.where)
        with closing(cast("Generator[Effect]", effects)):
            for effect in effects:
                if session.turns is not turns:
                    break
                edits.effects = [*edits.effects, effect]
                if session.stopping or time.monotonic() - begun > TIME_LIMIT_SECONDS:
                    break
                yield
    except MoloraError as error:
        turns.append(Turn("note", str(error)))
    finally:
        session.running = session.stopping = edits.sweeping = False
    yield
