"""Logits -> the next token. The warpers are those of transformers, in the order of its `generate`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from molora.errors import MoloraError


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn; raises MoloraError for a value out of range."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    """0 takes the likeliest token."""
    top_p: float = 1.0
    """Draws among the likeliest tokens that together have this probability."""
    repetition_penalty: float = 1.0
    """Divides the score of what was read already; 1 leaves it (CTRL, arXiv 1909.05858)."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("max_new_tokens", 1, 1_000_000),
            ("temperature", 0.0, 100.0),
            ("top_p", 0.0, 1.0),
            ("repetition_penalty", 0.01, 100.0),
            ("seed", 0, 2**63 - 1),
        ):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not low <= value <= high:
                raise MoloraError(f"{name} is {value!r}; it must lie between {low} and {high}.")


class Sampler:
    """Draws tokens by one `Sampling`, reproducibly by its seed."""

    def __init__(self, sampling: Sampling, device: torch.device) -> None:
        self._greedy = sampling.temperature == 0
        self._generator = torch.Generator(device).manual_seed(int(sampling.seed))
        self._processors = LogitsProcessorList()
        if sampling.repetition_penalty != 1:
            self._processors.append(RepetitionPenaltyLogitsProcessor(float(sampling.repetition_penalty)))
        if not self._greedy:
            self._processors.append(TemperatureLogitsWarper(float(sampling.temperature)))
            if sampling.top_p < 1:
                self._processors.append(TopPLogitsWarper(float(sampling.top_p)))

    def draw(self, read: Tensor, logits: Tensor) -> Tensor:
        """`read` int64 [1, T], `logits` [1, V] -> the next token, int64 [1, 1]."""
        scores = self._processors(read, logits.float())  # [1, V]
        if self._greedy:
            return scores.argmax(-1, keepdim=True)
        return torch.multinomial(scores.softmax(-1), 1, generator=self._generator)
