"""Logits -> the next token. The warpers are those of transformers, in the order of its `generate`."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from molora.sampling import Sampling


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
