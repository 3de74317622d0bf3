"""Adapters laid out as compiled code reads them.

Axes: P linears that read one input, E experts, R rank, I in_features, O out_features.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from molora.fast.adapter import Experts, PlainLora, numbers
from molora.fast.kernel import packed_ranks
from molora.fast.kernel.lanes import LANES
from molora.fast.kernel.levels import LEVELS_BLOCK
from molora.fast.kernel.lowering import beside, rows_of
from molora.fast.kernel.several import WIDTH
from molora.fast.kernel.tiles import STEP
from molora.fast.pages import placed, room
from molora.fast.threads import threads

NO_WORDS = np.empty((0, 0, 0, 0, 0), np.int32)
"""Where tokens go down in float32"""


def experts_arrays(experts: Experts) -> Any:
    """As `kernel.layers.Adapter`, without words."""
    router, bias, a, b, scaling = experts.arrays
    return placed(router), bias, a, NO_WORDS, way_up(list(b)), scaling


def lora_arrays(lora: PlainLora) -> Any:
    """The same for one expert that no router picks."""
    a, b, first = lora.arrays
    rank, width = b.shape[0], a.shape[1]
    a = placed(a.reshape(len(first) - 1, 1, rank, width))
    up = way_up([b[None, :, begin:end] for begin, end in pairwise(first)])
    none = np.empty((0, 0, 0), np.uint16), np.empty((0, 0), np.float32)
    return *none, a, NO_WORDS, up, 1.0


def in_words(adapter: Any) -> Any:
    """The same with A in whole numbers, too."""
    router, bias, a, _, up, scaling = adapter
    return router, bias, a, way_down(a), up, scaling


def alike(adapters: Sequence[Any]) -> list[Any]:
    """The same ones with routers, A's and B's each of one type in all of them: float32 where some are."""
    fields = [list(each) for each in zip(*adapters, strict=True)]
    for number in (0, 2, 4):  # the narrow ones
        if any(one.dtype == np.float32 for one in fields[number] if one.size):
            fields[number] = [_wide(one) for one in fields[number]]
        else:
            fields[number] = [one if one.size else one.astype(np.uint16) for one in fields[number]]
    return list(zip(*fields, strict=True))


def _wide(narrow: NDArray[Any]) -> NDArray[np.float32]:
    return narrow if narrow.dtype == np.float32 else (narrow.astype(np.uint32) << 16).view(np.float32)


def way_down(a: NDArray[np.uint16]) -> NDArray[np.int32]:
    """A's [P, E, R, I] in words [P, E, Q, G, any], see `kernel.lowering`."""
    (linears, count, rank, width), side = a.shape, beside(a.shape[2])
    shape = -(-rank * side // LANES), width // LEVELS_BLOCK, rows_of(side) * LANES
    words = room((linears * count, *shape), np.int32)
    packed_ranks(a.reshape(-1, rank, width), words, side, threads())
    return words.reshape(linears, count, *shape)


def way_up(weights: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """B's [E, R, O] by panels of `WIDTH` columns, one linear's after the other's: [E, panels, R, `WIDTH`], so that one
    token reads what it needs of an expert without a gap. Where the last of one is half empty, what it has stands there
    twice."""
    made = []
    for b in weights:
        count, rank, width = b.shape
        columns = np.arange(-(-width // WIDTH) * WIDTH)
        columns[columns >= width] -= LANES
        made.append(b[:, :, columns].reshape(count, rank, -1, WIDTH).transpose(0, 2, 1, 3))
    return placed(np.concatenate(made, axis=1))


def tiled(adapter: Any, first: NDArray[np.int64]) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """An adapter of linears whose results begin where `first` says [P+1], as `kernel.tiled.all_tiled` takes it: all
    A's, with routers behind them where they are bfloat16, and B's."""
    router, _, a, _, up, _ = adapter
    if not a.size:
        return np.empty((0, 0, 0), np.uint16), np.empty((0, 0, 0), np.uint16)
    linears, ranks, width = len(a), a.shape[1] * a.shape[2], a.shape[3]
    rows = [_filled(_half(a.reshape(-1, width)), STEP)]
    if len(router) and router.dtype == np.uint16:
        rows.append(_filled(router.reshape(-1, width), WIDTH))
    before = np.arange(linears) * ranks % STEP  # a linear's ranks may begin within a step
    banks = np.zeros((up.shape[1], -(-int(before.max() + ranks) // STEP) * STEP, WIDTH), np.uint16)
    owners = np.repeat(np.arange(linears), -(-np.diff(first) // WIDTH))  # of panels
    for bank, owner, own in zip(banks, owners, _half(up).swapaxes(0, 1), strict=True):
        bank[before[owner] : before[owner] + ranks] = own.reshape(ranks, WIDTH)
    pairs = banks.reshape(len(banks), -1, 2, WIDTH).swapaxes(2, 3)  # [panels, C/2, `WIDTH`, 2]
    return placed(panels_of(np.concatenate(rows))), placed(pairs.reshape(len(banks), -1, 2 * WIDTH))


def panels_of(weight: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Rows of bfloat16 [Q*`WIDTH`, I], side by side in panels [Q, I/2, 2*`WIDTH`] by pairs as levels have them."""
    ordered = weight.reshape(-1, WIDTH, weight.shape[1] // 8, 2, 4)
    return ordered.transpose(0, 2, 4, 1, 3).reshape(-1, weight.shape[1] // 2, 2 * WIDTH)


def _filled(rows: NDArray[Any], multiple: int) -> NDArray[Any]:
    """With zeros, up to a multiple of rows."""
    return np.pad(rows, ((0, -len(rows) % multiple), (0, 0)))


def _half(narrow: NDArray[Any]) -> NDArray[np.uint16]:
    """In bfloat16, rounded where it is float32."""
    return narrow if narrow.dtype == np.uint16 else numbers(torch.from_numpy(narrow).bfloat16())
