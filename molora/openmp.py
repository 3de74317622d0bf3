"""How OpenMP's threads wait for work. It reads so from the environment when torch is imported."""

from __future__ import annotations

import os
import sys

_WAITING = {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"}
"""The last two are how long GCC's and LLVM's wait by themselves: no thread is kept busy for longer than ever."""


def keep_awake() -> None:
    """Unless the environment says otherwise, keeps helpers awake from one layer's work to the next.

    As soon as two threads of a program have some, as where one loads a model and another one answers, GCC's fall asleep
    at once after each call, since there are more of them than cores: to wake them takes longer than what they help
    with, and a token twice to three times as long.
    """
    if sys.platform == "linux" and not _WAITING.keys() & os.environ.keys():
        os.environ.update(_WAITING)


def wait_as_usual() -> None:
    """For a library that brings an OpenMP of its own and is yet to be imported."""
    if all(os.environ.get(name) == value for name, value in _WAITING.items()):
        for name in _WAITING:
            del os.environ[name]
