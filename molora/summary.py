"""A run in numbers that can be quoted: load and its imbalance, entropy, the top pair, the surest and most torn tokens.

Knows numpy only. Axes: T tokens, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from molora import analysis
from molora.trace import ANSWER, PROMPT, RoutingTrace


class Judged(NamedTuple):
    """A token and how torn its routers were."""

    row: int
    text: str
    entropy: float
    """Mean over its routers, as a share of log E"""


@dataclass(frozen=True)
class Summary:
    """Of the tokens, layers and projections that `summary` was given."""

    tokens: int
    prompt_tokens: int
    answer_tokens: int
    routers: int
    """Layers times projections"""
    top_k: int
    load: tuple[float, ...]
    """[E], each expert's share of the picks, averaged over the routers; sums to 1"""
    imbalance: float
    """The largest load over the even share 1 / E, the first of `analysis.imbalance`: 1 is even"""
    variation: float
    """The load's coefficient of variation, the second of `analysis.imbalance`: 0 is even"""
    peak: float
    """The largest load within one router, averaged over the routers: experts that are even on the whole may each have
    routers of their own"""
    entropy: float
    """Mean over tokens and routers, as a share of log E"""
    pair: tuple[int, int, float] | None
    """(lower expert, higher expert, share of routing decisions) of the pair picked together most; None if K < 2"""
    confident: tuple[Judged, ...]
    """Tokens with the lowest entropy, lowest first"""
    torn: tuple[Judged, ...]
    """Tokens with the highest entropy, highest first"""


def summary(trace: RoutingTrace, tokens: NDArray[np.bool_] | None = None, *, most: int = 3) -> Summary | None:
    """The numbers for the `tokens` [T], all without it; narrow layers and projections with `trace.select`.

    most: how many confident and how many torn tokens. None where nothing was routed.
    """
    part = trace if tokens is None or tokens.all() else trace.select(tokens=tokens)
    rows = np.arange(len(trace)) if tokens is None else tokens.nonzero()[0]
    loads = analysis.load(part)  # [L, P, E]
    if np.isnan(loads).all():
        return None
    load = analysis.mean(loads, (0, 1))  # [E]
    entropy = analysis.entropy(part)  # [T, L, P]
    by_token = analysis.mean(entropy, (1, 2))  # [T]
    order = np.argsort(by_token, kind="stable")
    order = order[~np.isnan(by_token[order])]
    judged = [Judged(int(rows[at]), part.token_text[at], float(by_token[at])) for at in [*order[:most], *order[-most:]]]
    most_over_even, variation = analysis.imbalance(load)
    half = min(most, len(order))
    return Summary(
        tokens=len(part),
        prompt_tokens=int((part.phase == PROMPT).sum()),
        answer_tokens=int((part.phase == ANSWER).sum()),
        routers=part.num_layers * len(part.projections),
        top_k=part.top_k,
        load=tuple(load.tolist()),
        imbalance=most_over_even,
        variation=variation,
        peak=float(analysis.mean(loads.max(axis=-1), None)),
        entropy=float(analysis.mean(by_token, None)),
        pair=analysis.most_used_pair(part),
        confident=tuple(judged[:half]),
        torn=tuple(judged[: half - 1 : -1]) if half else (),
    )
