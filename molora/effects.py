"""What an edit does to an answer: the change of each of its tokens' log-probability, and each expert off in turn.

An expert's effect shows here even where the text stays the same. Axes: A tokens of the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from molora.trace import ANSWER, RoutingTrace

if TYPE_CHECKING:  # so that a page can draw effects without torch
    from molora.chat import Message
    from molora.edits import RoutingEdit
    from molora.engine import Engine


class Effect(NamedTuple):
    """An answer with one expert switched off."""

    expert: int
    mean: float
    """Change of log-probability in nats a token; below 0 the answer got less likely"""
    change: NDArray[np.float32]
    """[A], the same for each token"""


def recorded_answer(trace: RoutingTrace) -> list[int]:
    """The ids of an answer's tokens [A] as its trace has them.

    These are the tokens that were read: the last sampled one, which has no row, is left out.
    """
    ids: list[int] = trace.token_ids[trace.phase == ANSWER].tolist()
    return ids


def answer_logprobs(
    engine: Engine, messages: Sequence[Message], answer_ids: Sequence[int], edit: RoutingEdit | None = None
) -> NDArray[np.float32]:
    """Log-probability in nats of each token of a given answer, by teacher forcing under an edit [A].

    One pass over prompt and answer by chunks. Raises MoloraError for messages, ids or an edit that cannot be used.
    """
    return engine.logprobs(messages, answer_ids, edit)


def ablation(
    engine: Engine,
    messages: Sequence[Message],
    answer_ids: Sequence[int],
    experts: Iterable[int],
    layers: Iterable[int] | None = None,
    projections: Iterable[str] | None = None,
) -> Iterator[Effect]:
    """Switches each expert off in turn (`RoutingEdit.drop`) and yields its effect; closing the iterator stops the work.

    layers, projections: where the experts are switched off; None means everywhere. The answer is first read without
    an edit. Raises MoloraError as `answer_logprobs` does.
    """
    from molora.edits import RoutingEdit

    layers = None if layers is None else tuple(layers)
    projections = None if projections is None else tuple(projections)
    whole = answer_logprobs(engine, messages, answer_ids)  # [A]
    for expert in experts:
        edit = RoutingEdit.drop([expert], layers, projections)
        change = answer_logprobs(engine, messages, answer_ids, edit) - whole  # [A]
        yield Effect(expert, float(change.mean()), change)
