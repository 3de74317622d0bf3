"""The model's likeliest next tokens after what it reads, kept row by row for one request.

Axes: T tokens, R rows of one pass whose next token was scored, V vocabulary, C candidates a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from molora.highest import highest
from molora.text import TokenText
from molora.trace import RoutingTrace

CANDIDATES = 5
"""C, for each row that has any."""


def likeliest(logits: Tensor) -> Tensor:
    """`logits` [R, V] -> float32 [2, R, C]: ids, and probabilities, the likeliest first.

    The plain softmax: temperature, top-p and penalty of the sampling come later. As float32, which holds every id below
    2**24 as it is, both can come to the host in one copy with other numbers.
    """
    scores = logits.float()  # [R, V]
    _, ids = highest(scores, min(CANDIDATES, scores.shape[-1]))  # [R, C]
    return torch.stack([ids.float(), scores.softmax(dim=-1).gather(-1, ids)])


class Likeliest:
    """What the host has is only ever added to, so the traces that were filled stay true and share the memory."""

    def __init__(self, tokenizer: Any, capacity: int) -> None:
        """`capacity`: the most tokens of the request."""
        self._ids = np.full((capacity, CANDIDATES), -1, np.int32)
        self._probabilities = np.zeros((capacity, CANDIDATES), np.float32)
        self._pieces, self._text = TokenText(tokenizer), dict[str, str]()
        self._rows: list[int] = []
        """Those whose candidates have no text yet: it takes longer than all else, and not all traces are looked at"""
        self._any = False

    def keep(self, rows: Sequence[int], found: NDArray[np.float32]) -> None:
        """Takes over `likeliest` [2, R, C] for the trace's rows [R]."""
        self._any, width = True, found.shape[2]  # a vocabulary may have less than C
        for row, ids, probabilities in zip(rows, *found, strict=True):
            self._ids[row, :width], self._probabilities[row, :width] = ids, probabilities
        self._rows += rows

    def fill(self, trace: RoutingTrace) -> None:
        """Gives the trace of all rows so far its candidates, without copying them."""
        if self._any:
            for token_id in self._ids[self._rows].ravel().tolist():
                if token_id >= 0 and (name := str(token_id)) not in self._text:
                    self._text[name] = self._pieces.inner(token_id)
            self._rows.clear()
            rows = slice(len(trace))
            trace.candidate_ids, trace.candidate_probabilities = self._ids[rows], self._probabilities[rows]
            trace.candidate_text = self._text
