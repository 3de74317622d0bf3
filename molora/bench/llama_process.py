"""What llama.cpp's own process does. It imports nothing else that would keep the benchmark waiting."""

from __future__ import annotations

import time
from multiprocessing.connection import Connection
from typing import Any

from molora.openmp import wait_as_usual

_REST = 0.02
"""Seconds after which threads that have just worked no longer look for more, and leave the CPU to the other process"""


def serve(asked: Connection, gguf: str, options: dict[str, Any]) -> None:
    """Reads tokens for as long as it is asked to, and tells how many seconds each time took."""
    wait_as_usual()
    from llama_cpp import Llama

    llama: Any = Llama(gguf, **options)
    while True:
        try:
            passes, anew = asked.recv()
        except EOFError:
            break
        time.sleep(_REST)
        if anew:
            llama.reset()
        started = time.perf_counter()
        for ids in passes:
            llama.eval(ids)
        seconds = time.perf_counter() - started
        time.sleep(_REST)
        asked.send(seconds)
    llama.close()
