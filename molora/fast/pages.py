"""Memory in large pages. A CPU finds out where a page of memory is each time it has forgotten, and it remembers too few
small ones for a model, all of which a token reads: experts, which lie far apart, cost it most.

Many arrays share a mapping, since most have less than a page. It is given back when the last of them is gone. Its pages
are made large some time after it began: it can take longer to get a large page from the system than to fill it, which a
first answer would wait for.
"""

from __future__ import annotations

import math
import mmap
from contextlib import suppress
from threading import Lock, Timer
from typing import Any
from weakref import ref

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

_PAGE = 2 << 20
"""Of a large page, on most CPUs"""
_COLLAPSE = 25
"""Linux's MADV_COLLAPSE, which Python has no name for"""
_LINE = 64
"""Of a CPU's cache, where each array begins: what two of them share is read twice"""


class Pages:
    """Where arrays get their memory."""

    def __init__(self, shared: int = 32 << 20, later: float = 2.0) -> None:
        """`shared`: bytes that arrays share; `later`: seconds after which pages are made large."""
        self._shared, self._later = shared, later
        self._lock, self._left = Lock(), np.empty(0, np.uint8)
        """What nobody has of the last mapping"""

    def room(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array of zeros, where a line of the CPU's cache begins."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        taken = -(-size // _LINE) * _LINE
        with self._lock:
            if taken > len(self._left):
                whole = _mapped(max(taken, self._shared), self._later)
                if taken >= self._shared:
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


def _mapped(size: int, seconds: float) -> NDArray[np.uint8]:
    if not hasattr(mmap, "MADV_HUGEPAGE"):  # where pages are as they are
        return np.frombuffer(mmap.mmap(-1, size), np.uint8)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # shared memory has small ones alone
    numbers = np.frombuffer(memory, np.uint8)
    later = Timer(seconds, _enlarge, [ref(memory), -numbers.ctypes.data % _PAGE])
    later.daemon = True
    later.start()
    return numbers


def _enlarge(known: ref[mmap.mmap], first: int) -> None:
    """Makes the pages of a mapping large, if it is there still, from the first place on at which one may begin. Of
    what is written later, and where the system cannot do it now, it does so by itself, in time."""
    if (memory := known()) is None:
        return
    with suppress(OSError):  # a Linux that has none
        memory.madvise(mmap.MADV_HUGEPAGE)
    for at in range(first, len(memory) - _PAGE + 1, _PAGE):
        with suppress(OSError):  # nothing is written there, Linux is older than 6.1, or it has no large page left
            memory.madvise(_COLLAPSE, at, _PAGE)
