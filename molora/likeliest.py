"""The model's likeliest next tokens after what it reads, kept row by row for one request.

Axes: T tokens, R rows of one pass whose next token was scored, V vocabulary, C candidates a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from molora.highest import highest
from molora.text import TokenText
from molora.trace import no_candidates

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
    """What the host has is only ever added to, so the traces that have some of it stay true and share the memory."""

    def __init__(self, tokenizer: Any, capacity: int) -> None:
        """`capacity`: the most tokens of the request."""
        self._ids = np.full((capacity, CANDIDATES), -1, np.int32)
        self._probabilities = np.zeros((capacity, CANDIDATES), np.float32)
        self._text = CandidateText(self._ids, tokenizer)
        self._any = False

    def keep(self, rows: Sequence[int], found: NDArray[np.float32]) -> None:
        """Takes over `likeliest` [2, R, C] for the trace's rows [R]."""
        self._any, width = True, found.shape[2]  # a vocabulary may have less than C
        for row, ids, probabilities in zip(rows, *found, strict=True):
            self._ids[row, :width], self._probabilities[row, :width] = ids, probabilities

    def fields(self, rows: int) -> dict[str, Any]:
        """Those of a RoutingTrace of so many rows, all there are so far, without copying them; none where none came."""
        if not self._any:
            return no_candidates(rows)
        ids, probabilities = self._ids[:rows], self._probabilities[:rows]
        return {"candidate_ids": ids, "candidate_probabilities": probabilities, "candidate_text": self._text}


class CandidateText(Mapping[str, str]):
    """`RoutingTrace.candidate_text` of a request. Each is found when it is looked at: to find those of every token
    takes longer than the rest of the record, and few are."""

    def __init__(self, ids: NDArray[np.int32], tokenizer: Any) -> None:
        """`ids`: all candidates so far, -1 where there is none yet; those that come there later are known, too."""
        self._ids, self._pieces, self._found = ids, TokenText(tokenizer), dict[str, str]()

    def __getitem__(self, name: str) -> str:
        if (text := self._found.get(name)) is None:
            token_id = int(name) if name.isdecimal() else -1
            if str(token_id) != name or token_id < 0 or not (self._ids == token_id).any():
                raise KeyError(name)
            text = self._found[name] = self._pieces.inner(token_id)
        return text

    def __iter__(self) -> Iterator[str]:
        return map(str, self._all().tolist())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> NDArray[np.int32]:
        ids = np.unique(self._ids)
        return ids[ids >= 0]
