"""`molora.likeliest` of one row of logits in two kernels: torch's softmax and topk take longer than a layer of a model.

Axes: V vocabulary, S programs that read a part of it each, C candidates.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from molora.likeliest import CANDIDATES, likeliest

_PART = 1024
"""Logits that a program reads"""


@triton.jit
def _highest_of_part(logits, values, ids, highest, total, SIZE: tl.constexpr, PART: tl.constexpr, C: tl.constexpr):
    """The C highest of a part: values and ids [S, C]; and what the softmax needs of it, its highest and the sum [S]."""
    part = tl.program_id(0)
    cols = part * PART + tl.arange(0, PART)
    left = tl.load(logits + cols, mask=cols < SIZE, other=-float("inf")).to(tl.float32)
    most = tl.max(left, 0)
    tl.store(highest + part, most)
    tl.store(total + part, tl.sum(tl.exp(left - most), 0))
    for place in tl.static_range(C):
        at = tl.argmax(left, 0)
        tl.store(values + part * C + place, tl.max(left, 0))
        tl.store(ids + part * C + place, part * PART + at)
        left = tl.where(cols == part * PART + at, -float("inf"), left)


@triton.jit
def _highest_of_all(
    values,
    ids,
    highest,
    total,
    out,  # [2, 1, C]
    PARTS: tl.constexpr,
    PARTS2: tl.constexpr,
    FOUND2: tl.constexpr,
    C: tl.constexpr,
):
    parts, found = tl.arange(0, PARTS2), tl.arange(0, FOUND2)
    tops = tl.load(highest + parts, mask=parts < PARTS, other=-float("inf"))
    most = tl.max(tops, 0)
    whole = tl.sum(tl.load(total + parts, mask=parts < PARTS, other=0.0) * tl.exp(tops - most), 0)
    left = tl.load(values + found, mask=found < PARTS * C, other=-float("inf"))
    for place in tl.static_range(C):
        at = tl.argmax(left, 0)
        tl.store(out + place, tl.load(ids + at).to(tl.float32))
        tl.store(out + C + place, tl.exp(tl.max(left, 0) - most) / whole)
        left = tl.where(found == at, -float("inf"), left)


def likeliest_of_one(logits: Tensor) -> Tensor:
    """As `likeliest`, to which it leaves several rows and vocabularies of a few tokens."""
    rows, size = logits.shape
    if rows != 1 or size < 2 * _PART:
        return likeliest(logits)
    parts = triton.cdiv(size, _PART)
    values = logits.new_empty(parts, CANDIDATES, dtype=torch.float32)
    ids = torch.empty_like(values, dtype=torch.int32)
    highest, total = values.new_empty(2, parts)
    out = values.new_empty(2, 1, CANDIDATES)
    _highest_of_part[(parts,)](logits, values, ids, highest, total, SIZE=size, PART=_PART, C=CANDIDATES, num_warps=4)
    _highest_of_all[(1,)](
        values,
        ids,
        highest,
        total,
        out,
        PARTS=parts,
        PARTS2=triton.next_power_of_2(parts),
        FOUND2=triton.next_power_of_2(parts * CANDIDATES),
        C=CANDIDATES,
        num_warps=4,
    )
    return out
