"""Runs the engine for a visitor: throttles what the page redraws, honours stop, time and length limits."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from molora.errors import MoloraError
from molora.sampling import Sampling
from molora.trace import RoutingTrace
from viz.figures.edit_words import edit_words
from viz.language import t, tn
from viz.session import Session, Turn

if TYPE_CHECKING:  # the engine brings torch, which drawing does not need
    from molora.edits import RoutingEdit
    from molora.engine import Engine, EngineInfo, Step

MAX_PROMPT_CHARS = 8000
UPDATE_SECONDS = 0.34
"""At most about three redraws a second."""
TIME_LIMIT_SECONDS = 300.0


def bounded(
    most_new_tokens: int,
    max_new_tokens: float,
    temperature: float,
    top_p: float,
    repetition_penalty: float,
    seed: float | None,
) -> Sampling:
    """Numbers of a request, kept within what the page offers: a request can carry anything."""
    return Sampling(
        max_new_tokens=int(min(max(max_new_tokens, 1), most_new_tokens)),
        temperature=float(min(max(temperature, 0), 2)),
        top_p=float(min(max(top_p, 0.05), 1)),
        repetition_penalty=float(min(max(repetition_penalty, 1), 2)),
        seed=int(min(max(seed or 0, 0), 2**31 - 1)),
    )


def usual_penalty(info: EngineInfo) -> float:
    """The repetition penalty nobody chose: a model as small as the demo's repeats itself without one."""
    return 1.15 if info.is_demo else 1.0


def running(
    engine: Engine,
    messages: list[dict[str, Any]],
    sampling: Sampling,
    edit: RoutingEdit | None = None,
    begun: Sequence[int] = (),
) -> closing[Generator[Step]]:
    """The engine's steps; leaving the context stops the model before its next token.

    Raises MoloraError for messages that the model cannot read, and for an edit that it does not allow.
    """
    return closing(engine.stream(messages, **asdict(sampling), edit=edit, begun=begun))


def check_prompt(prompt: str) -> str:
    """The prompt without surrounding blanks. Raises MoloraError if nothing is left, or too much."""
    text = prompt.strip()
    if not text:
        raise MoloraError(t("Type a question first."))
    if len(text) > MAX_PROMPT_CHARS:
        raise MoloraError(
            t(
                "The question has {count:,} characters; this page takes up to {most:,}. Shorten it.",
                count=len(text),
                most=MAX_PROMPT_CHARS,
            )
        )
    return text


def edit_mark(trace: RoutingTrace) -> str:
    """What stands beside an answer that was made under an edit."""
    begun = trace.meta.get("begun")
    given = tn(", its first {n} token given", ", its first {n} tokens given", begun) if isinstance(begun, int) else ""
    return t("edited: {edit}", edit=edit_words(trace)) + given if trace.edit else ""


def busy() -> str:
    """What is said to who must wait for the end of an answer."""
    return t("An answer is still being written. Stop it first.")


def reply(
    engine: Engine,
    session: Session,
    sampling: Sampling,
    edit: RoutingEdit | None = None,
    begun: Sequence[int] = (),
) -> Generator[None]:
    """Answers the session's last question into the session; yields whenever the page should be redrawn.

    Under an edit it is an answer once more, beside the one that the conversation goes on with; `begun` are the ids of
    its first tokens. Closing the generator stops the model before its next token. A MoloraError of the engine becomes
    a note.
    """
    if not session.waiting or session.edits.task:
        return
    session.waiting, session.running = False, True
    turns = session.turns  # `clear` gives the session another list: what still comes then goes nowhere
    messages = session.question()
    if edit is None:
        session.edits.forget()
    session.trace, session.opened, session.chosen, session.start, session.length = None, "", None, None, None
    turns.append(Turn("assistant", "", aside=edit is not None))
    started = time.monotonic()
    drawn, note = started - UPDATE_SECONDS, ""  # the first token shows at once
    try:
        yield
        with running(engine, messages, sampling, edit, begun) as steps:
            for step in steps:
                if session.turns is turns:
                    prompt_rows = len(step.trace) - max(step.num_tokens - 1, 0)
                    session.length = prompt_rows + len(begun) + sampling.max_new_tokens
                    session.trace = step.trace
                turns[-1].content, turns[-1].mark = step.text, edit_mark(step.trace)
                now = time.monotonic()
                if session.stopping or now - started > TIME_LIMIT_SECONDS:
                    late = t("Stopped after {seconds:.0f} seconds.", seconds=TIME_LIMIT_SECONDS)
                    note = t("Stopped.") if session.stopping else late
                    break
                if step.finished == "stop" and not step.text:
                    note = t("The model ended its turn without a word.")
                if step.finished == "length":
                    count = step.num_tokens - len(begun)
                    note = t("Cut off after {count} new tokens, the limit in the settings.", count=count)
                if now - drawn >= UPDATE_SECONDS:
                    yield
                    drawn = time.monotonic()
    except MoloraError as error:
        note = str(error)
    finally:
        session.running = session.stopping = False
        session.length = None
        if not turns[-1].content:
            turns.pop()
        if note:
            turns.append(Turn("note", note))
    yield
