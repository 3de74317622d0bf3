"""`python -m molora.bench.fresh`: loads a model and answers once in a process of its own; a line of JSON.

On its own, so that the peak of memory and the first token are those of a program that does nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from molora.base import Quantize
    from molora.engine import Engine

QUESTION = "What are the symptoms of asthma, and when should I see a doctor about it?"
ANSWER = 512
"""Tokens of the answer after which the device's memory is looked at."""

_MESSAGES = [{"role": "user", "content": QUESTION}]


def fresh(model: str, base: str | None, quantize: str, device: str) -> dict[str, Any]:
    """Seconds to load and to the first token, bytes at most. Raises MoloraError with what the process said."""
    from molora.errors import MoloraError

    command = [sys.executable, "-m", "molora.bench.fresh", model, base or "", quantize, device]
    found_at = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": found_at}  # a model may be named by where this process is
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MoloraError((done.stderr.strip().splitlines() or ["The process that loads the model died."])[-1])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def first_token_seconds(engine: Any) -> float:
    started = time.perf_counter()
    stream = engine.stream(_MESSAGES, max_new_tokens=1)
    next(stream)
    seconds = time.perf_counter() - started
    stream.close()
    return seconds


def device_bytes(engine: Any) -> dict[str, int | None]:
    """The most that was held on the device once an answer is given too, and what it cannot do without; on a CPU None
    of both."""
    from molora.bench.memory import needed_bytes, peak_device_bytes

    if not engine.model.get_input_embeddings().weight.is_cuda:
        return {"peak_device_bytes": None, "needed_device_bytes": None}
    read = len(engine.answer(_MESSAGES, max_new_tokens=ANSWER).trace)
    return {"peak_device_bytes": peak_device_bytes(), "needed_device_bytes": needed_bytes(engine.model, read)}


def loaded(model: str, base: str | None, quantize: Quantize, device: str) -> tuple[Engine, dict[str, Any]]:
    """Loads and answers once in this process: the engine, and what `fresh` gives. Raises MoloraError as `load` does."""
    from molora.bench.memory import peak_host_bytes, private_bytes_gained, weights_on_host
    from molora.loading import load

    before, started = peak_host_bytes(), time.perf_counter()
    with private_bytes_gained() as gained:
        engine = load(model, base, quantize, device)
        seconds = time.perf_counter() - started
    loading, private = peak_host_bytes(), gained()
    first = first_token_seconds(engine)
    return engine, {
        "load_seconds": round(seconds, 2),
        "first_token_seconds": round(first, 3),
        "peak_host_bytes_before_loading": before,
        "peak_host_bytes_loading": loading,
        "loading_bytes_beyond_weights": None
        if private is None
        else max(0, private - weights_on_host(engine.model)),  # below 0: some weights still lie in their file
        "peak_host_bytes": peak_host_bytes(),
        **device_bytes(engine),
    }


def main() -> int:
    from molora.errors import MoloraError

    model, base, quantize, device = sys.argv[1:]
    try:
        _, found = loaded(model, base or None, cast("Quantize", quantize), device)
    except MoloraError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
