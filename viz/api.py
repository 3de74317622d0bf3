"""The public endpoint `/ask`: prompt in, answer and routing out, streamed."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from molora.errors import MoloraError
from molora.trace import RoutingTrace
from viz.chat import TIME_LIMIT_SECONDS, UPDATE_SECONDS, bounded, check_prompt, running, usual_penalty
from viz.coming import Coming

if TYPE_CHECKING:
    from molora.edits import RoutingEdit


def routed_experts(trace: RoutingTrace) -> str:
    """base64 of a .npy: int16 [T, L*P, K], layer by layer, each with its projections in order."""
    buffer = io.BytesIO()
    tokens, layers, projections, top_k = trace.expert_ids.shape
    np.save(buffer, trace.expert_ids.reshape(tokens, layers * projections, top_k), allow_pickle=False)
    return base64.b64encode(buffer.getvalue()).decode()


def ask_endpoint(coming: Coming, most_new_tokens: int) -> Callable[..., Iterator[dict[str, Any]]]:
    """The function behind `/ask`; its signature is the endpoint's."""

    def ask(
        prompt: str,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
        edit: list[dict[str, Any]] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Answers one prompt. Streams {"answer": text so far, "edit": what was changed in the routing, in words, or
        null, "tokens": text of the T tokens read so far, "routed_experts": base64 of a .npy, int16 [T, layers *
        projections, top_k]}, about three times a second. `edit` changes the routing: a list of rules, {"kind": "drop",
        "reroute", "force" or "attention_off", "experts", "layers", "projections"}; what is left out means all."""
        try:
            sampling = bounded(most_new_tokens, max_new_tokens, temperature, 1.0, usual_penalty(coming.info), seed)
            messages = [{"role": "user", "content": check_prompt(prompt)}]
            engine = coming.engine
            begun = time.monotonic()
            drawn = begun - UPDATE_SECONDS  # the first token comes at once
            with running(engine, messages, sampling, _edit(edit)) as steps:
                for step in steps:
                    now = time.monotonic()
                    late = now - begun > TIME_LIMIT_SECONDS
                    if step.finished or late or now - drawn >= UPDATE_SECONDS:
                        drawn = now
                        yield {
                            "answer": step.text,
                            "edit": step.trace.edit or None,
                            "tokens": step.trace.token_text,
                            "routed_experts": routed_experts(step.trace),
                        }
                    if late:
                        return
        except MoloraError as error:
            raise gr.Error(str(error), print_exception=False) from error

    return ask


def _edit(rules: object) -> RoutingEdit | None:
    """None without any rule."""
    from molora.rules import read_edit

    return read_edit(rules) if rules else None
