"""Numbers drawn from a RoutingTrace: entropy, load, pairs. Knows numpy only.

Axes: T tokens, L layers, P projections, E experts, K picked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from molora.trace import ANSWER, PROMPT, TEMPLATE, RoutingTrace

PHASE_NAMES = {TEMPLATE: "template", PROMPT: "prompt", ANSWER: "answer"}


def probabilities(trace: RoutingTrace) -> NDArray[np.float32]:
    """softmax over all experts of every router's logits [T, L, P, E]; NaN where a router has not run."""
    logits = trace.router_logits
    if not logits.size:
        return logits
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def entropy(trace: RoutingTrace) -> NDArray[np.float32]:
    """Entropy of every router's choice [T, L, P], as a share of log E: 0 is certain, 1 is uniform.

    NaN where a router has not run.
    """
    if trace.num_experts < 2:
        return np.zeros(trace.router_logits.shape[:3], np.float32)
    logits = trace.router_logits
    if not logits.size:
        return np.empty(logits.shape[:3], np.float32)
    below = logits - logits.max(axis=-1, keepdims=True)  # [T, L, P, E]
    powers = np.exp(below)
    total = powers.sum(axis=-1)  # [T, L, P]
    nats = np.log(total) - (powers * below).sum(axis=-1) / total  # -sum p log p, with one logarithm a router
    return np.maximum(nats, 0) / np.float32(np.log(trace.num_experts))


def margin(trace: RoutingTrace) -> NDArray[np.float32]:
    """How clear each router's choice was [T, L, P]: the router probability (softmax over all experts) of the weakest
    expert picked less that of the strongest one left.

    0 is a tie, 1 the utmost; negative where an edit or a drawing router picked against the probabilities. NaN where a
    router has not run, or where no expert was picked or none left.
    """
    share = probabilities(trace)  # [T, L, P, E]
    if not share.size or not trace.top_k:
        return np.full(share.shape[:3], np.nan, np.float32)
    picked = np.zeros((*share.shape[:3], trace.num_experts + 1), bool)  # the last column takes the slots without a pick
    np.put_along_axis(picked, trace.expert_ids.astype(np.int64), True, axis=-1)
    picked = picked[..., :-1]
    gap = np.where(picked, share, np.inf).min(axis=-1) - np.where(picked, -np.inf, share).max(axis=-1)
    return np.where(np.isfinite(gap), gap, np.nan).astype(np.float32)


def expert_weights(trace: RoutingTrace) -> NDArray[np.float64]:
    """The applied weight of every expert for every token, summed over layers and projections [T, E]."""
    tokens, experts = len(trace), trace.num_experts
    picked = trace.expert_ids >= 0  # [T, L, P, K]
    rows = np.broadcast_to(np.arange(tokens)[:, None, None, None], picked.shape)
    cells = rows[picked] * experts + trace.expert_ids[picked]
    sums = np.bincount(cells, weights=trace.expert_weights[picked], minlength=tokens * experts)
    return sums.astype(np.float64).reshape(tokens, experts)  # without a weight, bincount counts in integers


def token_experts(trace: RoutingTrace) -> NDArray[np.int64]:
    """The expert with the most weight for each token over all layers and projections [T]; -1 where none was picked."""
    weights = expert_weights(trace)
    if not weights.size:
        return np.full(len(trace), -1)
    return np.where(weights.max(axis=1) > 0, weights.argmax(axis=1), -1).astype(np.int64)


def pick_counts(trace: RoutingTrace, weighted: bool = False) -> NDArray[np.float64]:
    """How often each expert was picked [L, P, E]; `weighted`: the sum of the weights it was applied with instead."""
    layers, projections, experts = trace.num_layers, len(trace.projections), trace.num_experts
    picked = trace.expert_ids >= 0  # [T, L, P, K]
    routers = np.arange(layers * projections).reshape(layers, projections, 1)
    cells = np.broadcast_to(routers, picked.shape)[picked] * experts + trace.expert_ids[picked]
    weights = trace.expert_weights[picked] if weighted else None
    counts = np.bincount(cells, weights, minlength=layers * projections * experts)
    return counts.astype(np.float64).reshape(layers, projections, experts)


def load(trace: RoutingTrace) -> NDArray[np.float64]:
    """Each expert's share of all picks [L, P, E]; sums to 1 over E, uniform is 1 / E; NaN where nothing was picked."""
    counts = pick_counts(trace)
    with np.errstate(invalid="ignore"):
        return counts / counts.sum(axis=-1, keepdims=True)


def imbalance(load: NDArray[np.float64]) -> tuple[float, float]:
    """How uneven a load [E] is: (its largest share over the even share 1 / E, its coefficient of variation).

    The first is 1 for an even load and E where one expert takes all: the capacity factor from which on a Switch
    Transformer would drop no token (arXiv 2101.03961, section 2.2). The second, standard deviation over mean, is 0 for
    an even load; Shazeer et al. penalise its square (arXiv 1701.06538, section 4). NaN where nothing was picked.
    """
    if not load.size:
        return float("nan"), float("nan")
    return float(load.max() * load.size), float(load.std() / load.mean())


def pair_shares(trace: RoutingTrace) -> NDArray[np.float64]:
    """[E, E], upper triangle: the share of routing decisions that picked both experts; all 0 if K < 2."""
    experts, decisions = trace.num_experts, int((trace.expert_ids[..., 0] >= 0).sum()) if trace.top_k else 0
    counts = np.zeros(experts * experts)
    for first in range(trace.top_k):
        for second in range(first + 1, trace.top_k):
            one, two = trace.expert_ids[..., first], trace.expert_ids[..., second]
            both = (one >= 0) & (two >= 0)
            low, high = np.minimum(one, two)[both].astype(np.int64), np.maximum(one, two)[both]
            counts += np.bincount(low * experts + high, minlength=experts * experts)
    return counts.reshape(experts, experts) / max(decisions, 1)


def most_used_pair(trace: RoutingTrace) -> tuple[int, int, float] | None:
    """(lower expert, higher expert, share of decisions) of the pair picked together most; None if there is no pair."""
    shares = pair_shares(trace)
    if not shares.size or shares.max() == 0:
        return None
    low, high = divmod(int(shares.argmax()), trace.num_experts)
    return low, high, float(shares[low, high])


def summarize(trace: RoutingTrace) -> dict[str, Any]:
    """The trace in plain values for JSON: edit in words (None without one), meta, sizes, tokens with the likeliest next
    ones (text and probability) where the trace has them, and load, imbalance and entropy by phase."""
    strongest = token_experts(trace)
    phases = {}
    for value in (PROMPT, ANSWER):
        part = trace.select(tokens=trace.phase == value)
        pair, by_expert = most_used_pair(part), mean(load(part), (0, 1))  # [E]
        most, variation = imbalance(by_expert)
        phases[PHASE_NAMES[value]] = {
            "tokens": len(part),
            "load": rounded(by_expert),
            "imbalance": {"max_over_uniform": rounded(most), "coefficient_of_variation": rounded(variation)},
            "load_by_layer": {name: rounded(load(part)[:, at]) for at, name in enumerate(trace.projections)},
            "mean_entropy": rounded(mean(entropy(part), None)),
            "most_used_pair": None if pair is None else {"experts": pair[:2], "share": round(pair[2], 4)},
        }
    return {
        "edit": trace.edit or None,
        "meta": trace.meta,
        "num_tokens": len(trace),
        "num_experts": trace.num_experts,
        "top_k": trace.top_k,
        "layers": trace.layer_indices.tolist(),
        "projections": list(trace.projections),
        "tokens": [
            {"id": int(trace.token_ids[row]), "text": text, "phase": PHASE_NAMES[int(trace.phase[row])]}
            | {"expert": int(strongest[row])}
            | ({"next": [[piece, rounded(share)] for _, piece, share in found]} if found else {})
            for row, text in enumerate(trace.token_text)
            for found in [trace.candidates(row)]
        ],
        "phases": phases,
    }


def mean(values: NDArray[Any], axis: int | tuple[int, ...] | None) -> NDArray[Any]:
    """Mean over what is not NaN; NaN, without a warning, where nothing is left."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(axis=axis) / known.sum(axis=axis)


def rounded(values: Any) -> Any:
    """Nested lists of four decimals, None for NaN: JSON has no NaN."""
    if np.ndim(values):
        return [rounded(value) for value in values]
    return None if np.isnan(values) else round(float(values), 4)
