"""How functions are compiled, and kept on disk for the next start."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any

from numba import config, njit, set_num_threads

from molora.fast.kernel.granted import TILES

REORDERS = "reassoc", "contract", "nsz"
"""Sums may be taken in any order, as in any fast product; infinities count, since edits are made of them."""

inner = njit(fastmath=set(REORDERS), nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""For functions that only compiled ones call."""


def _stamp() -> str:
    """Of all code in this folder: numba looks only at the file that a function stands in, not at what it calls,
    nor at what the system grants."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12] + "_tiles" * TILES


_STAMP = _stamp()


class Shared:
    """Compiled twice: for one thread, and for several, where the last argument says that its work has so many parts.
    Where compiled code calls one, it is one itself, and calls that for as many threads."""

    def __init__(self, function: Callable[..., Any], *, loops: bool) -> None:
        """`loops`: whether it has loops of its own that threads share, or only calls what has."""
        self.alone, self.together = kept(function), kept(function, together=True, parallel=loops)

    def __call__(self, *args: Any) -> None:
        if args[-1] == 1:
            self.alone(*args)
        else:
            set_num_threads(min(args[-1], config.NUMBA_NUM_THREADS))
            self.together(*args)


def shared(function: Callable[..., Any]) -> Any:
    """One whose loops threads share."""
    return Shared(function, loops=True)


def sharing(function: Callable[..., Any]) -> Any:
    """One that calls such."""
    return Shared(function, loops=False)


def kept(function: Callable[..., Any], *, together: bool = False, parallel: bool = False) -> Callable[..., Any]:
    """Compiled, and kept on disk for the next start; only for this one where no folder can be written to. `together`:
    what it calls is for several threads."""
    how = partial(njit, fastmath=set(REORDERS), nogil=True, parallel=parallel)
    known = {
        name: (value.together if together else value.alone) if isinstance(value, Shared) else value
        for name, value in function.__globals__.items()
    }
    own = FunctionType(function.__code__, known)
    own.__qualname__ = f"{function.__qualname__}_{'together_' * together}{_STAMP}"  # numba keeps it by this name
    try:
        return how(cache=True)(own)
    except RuntimeError:
        return how()(own)
