"""Two traces side by side: which rows read the same token, and how far the routers' choices lie apart there.

Axes: A rows of the alignment, L layers, P projections, E experts, K picked. Knows numpy only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from molora import analysis
from molora.errors import MoloraError
from molora.trace import RoutingTrace

MAX_TOKENS = 8192
"""Of each of two traces: matching runs takes longer than in proportion to them."""

_EXACT = 2000
"""Longer sequences are matched by their rarer items first (difflib's autojunk); the others join their neighbours."""
_WORDS = re.compile(r"\s*(?:[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+|[^\w\s])|\s+")
"""With the blanks before them, so that a changed sentence does not fall to pieces at each blank."""

Kind = Literal["same", "removed", "added"]


@dataclass(frozen=True, eq=False)
class Alignment:
    """Which row of one trace read what which row of the other did, in the order of reading."""

    rows: NDArray[np.int64]
    """[A, 2], rows of the one and of the other; -1 where only the other side has the token"""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def both(self) -> NDArray[np.bool_]:
        """Where both traces read the token [A]."""
        return (self.rows[:, 0] >= 0) & (self.rows[:, 1] >= 0)

    def phase(self, one: RoutingTrace, other: RoutingTrace) -> NDArray[np.uint8]:
        """Of each row's token [A]: as the one read it, and as the other where only that did."""
        mine, theirs = self.rows.T
        phases = np.zeros(len(self), np.uint8)
        phases[theirs >= 0] = other.phase[theirs[theirs >= 0]]
        phases[mine >= 0] = one.phase[mine[mine >= 0]]
        return phases

    def text(self, one: RoutingTrace, other: RoutingTrace) -> list[str]:
        """A pieces of text, whichever trace has them."""
        return [one.token_text[a] if a >= 0 else other.token_text[b] for a, b in self.rows.tolist()]


class Comparison(NamedTuple):
    """Two traces, aligned, and how far apart they are."""

    one: RoutingTrace
    other: RoutingTrace
    alignment: Alignment
    bits: NDArray[np.float32]
    """The `divergence` [A, L, P]"""


def compared(one: RoutingTrace, other: RoutingTrace) -> Comparison:
    """Raises MoloraError for traces that are too long, or of other layers, projections or experts."""
    check(one, other)
    alignment = align(one, other)
    return Comparison(one, other, alignment, divergence(one, other, alignment))


def align(one: RoutingTrace, other: RoutingTrace) -> Alignment:
    """By what both begin with, then by the longest common runs of token ids.

    Raises MoloraError for a trace of more than `MAX_TOKENS` tokens.
    """
    for trace in (one, other):
        if len(trace) > MAX_TOKENS:
            raise MoloraError(f"A trace of {len(trace):,} tokens cannot be compared; up to {MAX_TOKENS:,} can.")
    mine, theirs = one.token_ids.tolist(), other.token_ids.tolist()
    rows = [pair for kind, span, across in _runs(mine, theirs) for pair in _paired(kind, span, across)]
    return Alignment(np.array(rows, np.int64).reshape(-1, 2))


def divergence(one: RoutingTrace, other: RoutingTrace, alignment: Alignment) -> NDArray[np.float32]:
    """Jensen-Shannon divergence of the two routers' choices, in bits [A, L, P]: 0 is the same, 1 has nothing in common.

    Of the softmax over all experts, so of what the routers said, whatever an edit then made of it: that stays defined
    where experts are switched off, and tells how far the edit moved what the routers read. What was really applied is
    in `changed_picks`. NaN where only one trace has the token, or a router has not run. Lin, "Divergence measures
    based on the Shannon entropy", 1991.

    Raises MoloraError for traces of other layers, projections or experts.
    """
    check(one, other)
    found = np.full((len(alignment), one.num_layers, len(one.projections)), np.nan, np.float32)
    mine, theirs = alignment.rows[alignment.both].T
    for at, layer in enumerate(one.layer_indices.tolist()):  # a layer at a time: traces may be large
        p, q = (
            analysis.probabilities(trace.select(layers=[layer])).astype(np.float64)[rows, 0]  # [both, P, E]
            for trace, rows in ((one, mine), (other, theirs))
        )
        bits = _bits((p + q) / 2) - (_bits(p) + _bits(q)) / 2  # [both, P]
        found[alignment.both, at] = np.clip(bits, 0, 1)
    return found


def changed_picks(one: RoutingTrace, other: RoutingTrace, alignment: Alignment) -> NDArray[np.float64]:
    """The share of picks that differ, at tokens that both read [L, P]; NaN where neither picked anything.

    Of each token's applied picks, those that both made are left out of the larger number; a switched-off slot is none.
    Raises MoloraError as `divergence` does.
    """
    check(one, other)
    mine, theirs = alignment.rows[alignment.both].T
    shares = np.full((one.num_layers, len(one.projections)), np.nan)
    for at in range(one.num_layers):
        a, b = _picked(one, mine, at), _picked(other, theirs, at)  # [both, P, E]
        most = np.maximum(a.sum(axis=-1), b.sum(axis=-1)).sum(axis=0)  # [P]
        with np.errstate(invalid="ignore"):
            shares[at] = 1 - (a & b).sum(axis=(0, 2)) / np.where(most, most, np.nan)
    return shares


def mean(values: NDArray[Any], axis: int | tuple[int, ...] | None = None) -> NDArray[Any]:
    """Mean over what is known; NaN, without a warning, where nothing is."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(axis=axis) / known.sum(axis=axis)


def changed_text(one: str, other: str) -> list[tuple[Kind, str]]:
    """The way from one text to the other by words, Chinese and Japanese by characters: (kind, text) runs.

    What is "same" or "removed", joined, is the one; what is "same" or "added" is the other.
    """
    mine, theirs = _WORDS.findall(one), _WORDS.findall(other)
    found: list[tuple[Kind, str]] = []
    for kind, span, across in _runs(mine, theirs):
        parts: tuple[tuple[Kind, list[str]], ...] = (("removed", mine[span]), ("added", theirs[across]))
        if kind == "same":
            parts = (("same", mine[span]),)
        for name, words in parts:
            text = "".join(words)
            if text and found and found[-1][0] == name:
                found[-1] = (name, found[-1][1] + text)
            elif text:
                found.append((name, text))
    return found


def check(one: RoutingTrace, other: RoutingTrace) -> None:
    """Raises MoloraError for traces of other layers, projections or experts."""
    for what, a, b in (
        ("layers", one.layer_indices.tolist(), other.layer_indices.tolist()),
        ("projections", one.projections, other.projections),
        ("experts", one.num_experts, other.num_experts),
    ):
        if a != b:
            had = f"{_told(a)} beside {_told(b)}"
            raise MoloraError(f"The traces have other {what}: {had}. Compare two runs of one kind of model.")


def _told(value: Any) -> str:
    return str(value) if isinstance(value, int) else f"{len(value)} ({', '.join(map(str, value[:3]))}, ...)"


def _runs(one: Sequence[Any], other: Sequence[Any]) -> list[tuple[Kind, slice, slice]]:
    """Common and differing spans of both, in order; a differing span is called "removed"."""
    start = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    long = max(len(one), len(other)) > _EXACT
    found: list[tuple[Kind, slice, slice]] = [("same", slice(0, start), slice(0, start))]
    for tag, a, b, c, d in SequenceMatcher(None, one[start:], other[start:], autojunk=long).get_opcodes():
        kind: Kind = "same" if tag == "equal" else "removed"
        found.append((kind, slice(start + a, start + b), slice(start + c, start + d)))
    return found


def _paired(kind: Kind, span: slice, across: slice) -> list[tuple[int, int]]:
    """Rows of an alignment: pairs where the spans are the same, else those of the one, then those of the other."""
    mine, theirs = range(span.start, span.stop), range(across.start, across.stop)
    if kind == "same":
        return list(zip(mine, theirs, strict=True))
    return [(row, -1) for row in mine] + [(-1, row) for row in theirs]


def _bits(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Entropy over the last axis, in bits; NaN stays."""
    return -(share * np.log2(np.maximum(share, np.finfo(np.float64).tiny))).sum(axis=-1)


def _picked(trace: RoutingTrace, rows: NDArray[np.int64], at: int) -> NDArray[np.bool_]:
    """Which experts were applied [rows, P, E], in the layer at a place."""
    ids = trace.expert_ids[rows, at]  # [rows, P, K]
    return (ids[..., None] == np.arange(trace.num_experts)).any(axis=-2)
