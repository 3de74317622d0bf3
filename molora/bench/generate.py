"""`transformers.generate` on the plain base, token by token: what one would use without this engine."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor
from transformers.generation import BaseStreamer

from molora.bench.measuring import CONTEXT, TURN, Turn

GENERATE = "generate"


class _Clock(BaseStreamer):
    """When each token was there: it comes to the host before it is put here."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: Tensor) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """Nothing is held back."""


def generate_turn(model: Any, ids: list[int]) -> Turn:
    """Greedy, each time anew after the first `CONTEXT` of `ids`; the prompt's pass, which makes the first token, is
    left out."""
    prompt = torch.tensor([ids[:CONTEXT]], device=model.get_input_embeddings().weight.device)  # [1, S]

    def read() -> float:
        clock, count = _Clock(), TURN + 1
        with torch.inference_mode():
            model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=count,
                min_new_tokens=count,  # whatever the model would end with
                do_sample=False,
                temperature=None,  # a base that would sample by default
                top_p=None,
                top_k=None,
                pad_token_id=0,
                streamer=clock,
            )
        _prompt, first, *_, last = clock.times
        return (last - first) / TURN

    return read
