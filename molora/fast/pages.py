"""Memory in large pages. A CPU finds out where a page of memory is each time it has forgotten, and it remembers too few
small ones for a model, all of which a token reads: experts, which lie far apart, cost it most.

Many arrays share a mapping, since most have less than a page. It is given back when the last of them is gone.
"""

from __future__ import annotations

import math
import mmap
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

_MAPPED = 32 << 20
"""Bytes that arrays share"""
_LINE = 64
"""Of a CPU's cache, where each array begins: what two of them share is read twice"""


class Pages:
    """Where arrays get their memory."""

    def __init__(self) -> None:
        self._lock, self._left = Lock(), np.empty(0, np.uint8)
        """What nobody has of the last mapping"""

    def room(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array of zeros, where a line of the CPU's cache begins."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        taken = -(-size // _LINE) * _LINE
        with self._lock:
            if taken > len(self._left):
                whole = _mapped(max(taken, _MAPPED))
                if taken >= _MAPPED:
                    return whole[:size].view(dtype).reshape(shape)
                self._left = whole
            own, self._left = self._left[:size], self._left[taken:]
        return own.view(dtype).reshape(shape)


room = Pages().room


def placed(array: NDArray[Any]) -> NDArray[Any]:
    """The same numbers in large pages."""
    own = room(array.shape, array.dtype)
    own[...] = array
    return own


def placed_tensor(tensor: Tensor) -> Tensor:
    """The same for a tensor, where it is in the memory of a CPU."""
    if tensor.device.type != "cpu":
        return tensor
    own = torch.from_numpy(room(tuple(tensor.shape), f"u{tensor.itemsize}")).view(tensor.dtype)
    return own.copy_(tensor)


def _mapped(size: int) -> NDArray[np.uint8]:
    if not hasattr(mmap, "MADV_HUGEPAGE"):  # where pages are as they are
        return np.frombuffer(mmap.mmap(-1, size), np.uint8)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # shared memory has small ones alone
    memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)
