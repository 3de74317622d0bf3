"""What tokens attend to.

Axes: N tokens, T keys and values so far, the N among them, H query heads, G key heads, D their size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_ROWS = 128
"""Tokens whose scores lie side by side at once."""


def attention(query: Tensor, keys: Tensor, values: Tensor, scale: float, mask: Tensor | None = None) -> Tensor:
    """One token's: queries [1, G, H/G, D], keys and values [1, G, T, D] -> [1, G, H/G, D]; mask [1, 1, 1, T] is added
    to the scores."""
    keys, values = keys.to(query.dtype), values.to(query.dtype)
    return F.scaled_dot_product_attention(query, keys, values, mask, scale=scale)


def attention_of_many(
    query: Tensor, keys: Tensor, values: Tensor, dtype: torch.dtype, seen: Tensor | None = None
) -> Tensor:
    """Queries [H, N, D] of the last N tokens, with the scale in them, keys and values [G, T, D] -> [H, N, D].

    `seen`: bool [N, T], True where one sees the other; None: each sees itself and all before it. `dtype`: of the
    products. In bfloat16 on a CPU torch's fused kernel gains nothing over float32, and plain products take half its
    time. What all keys have in common, which moves no softmax, is taken out of them first: the scores become small, and
    lose less by rounding (SageAttention, arXiv 2410.02367).
    """
    if keys.dtype == torch.float16 != dtype:
        keys, values = keys.float(), values.float()
    if dtype != keys.dtype and query.device.type == "cpu" and seen is None:
        own = keys - keys.mean(1, keepdim=True)  # [G, T, D]
        return _by_rows(query.to(dtype).contiguous(), own.to(dtype), values.to(dtype))
    heads, count, total = len(query), query.shape[1], keys.shape[1]
    if seen is None and total > count:
        seen = query.new_ones(count, total, dtype=torch.bool).tril(total - count)  # [N, T]
    y = F.scaled_dot_product_attention(
        query[None],
        keys[None],
        values[None],
        seen,
        is_causal=seen is None,
        scale=1.0,
        enable_gqa=heads != len(keys),
    )
    return y[0]


def _by_rows(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """The same, some rows at a time against the keys that they see."""
    (heads, count, size), (groups, total, _) = query.shape, keys.shape
    past, y = total - count, torch.empty_like(query)
    query, out = query.view(groups, heads // groups, count, size), y.view(groups, heads // groups, count, size)
    later = torch.ones(_ROWS, _ROWS, dtype=torch.bool, device=query.device).triu(1)  # [128, 128]
    for at in range(0, count, _ROWS):
        rows = slice(at, min(at + _ROWS, count))
        new, end = rows.stop - at, past + rows.stop
        scores = query[:, :, rows].flatten(1, 2) @ keys[:, :end].mT  # [G, H/G*n, end]
        scores.view(groups, -1, new, end)[..., end - new :].masked_fill_(later[:new, :new], -torch.inf)
        part = scores.softmax(dim=-1) @ values[:, :end]  # [G, H/G*n, D]
        out[:, :, rows] = part.view(groups, -1, new, size)
    return y
