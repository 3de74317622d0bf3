"""How functions are compiled, and kept on disk for the next start."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any

from numba import config, njit, set_num_threads

REORDERS = "reassoc", "contract", "nsz"
"""Sums may be taken in any order, as in any fast product; infinities count, since edits are made of them."""

inner = njit(fastmath=set(REORDERS), nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""For functions that only compiled ones call."""


def _stamp() -> str:
    """Of all code in this folder: numba looks only at the file that a function stands in, not at what it calls."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


_STAMP = _stamp()


def kept(function: Callable[..., Any], *, parallel: bool = False) -> Callable[..., Any]:
    """Compiled, and kept on disk for the next start; only for this one where no folder can be written to."""
    how = partial(njit, fastmath=set(REORDERS), nogil=True, parallel=parallel)
    own = FunctionType(function.__code__, function.__globals__)
    own.__qualname__ = f"{function.__qualname__}_{'together_' * parallel}{_STAMP}"  # numba keeps it by this name
    try:
        return how(cache=True)(own)
    except RuntimeError:
        return how()(own)


def shared(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled twice: for one thread, and for several, where the last argument says that its work has so many parts."""
    alone, together = kept(function), kept(function, parallel=True)

    def call(*args: Any) -> None:
        if args[-1] == 1:
            alone(*args)
        else:
            set_num_threads(min(args[-1], config.NUMBA_NUM_THREADS))
            together(*args)

    return call
