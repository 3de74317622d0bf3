"""`python -m molora.bench`: what MoLoRA and its recording cost beside the base model, as ratios from one run.

The systems take turns, token by token and prompt by prompt, so that whatever else the machine does falls on all of them
alike. Each ratio is the median over the rounds of a ratio within one round.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import torch
from tqdm.auto import tqdm

from molora.engine import Engine
from molora.errors import MoloraError
from molora.grid import RouterGrid
from molora.loading import QUANTIZE, Quantize, load, load_base
from molora.reading import Reading
from molora.trace import PROMPT

PREFILL = 512
"""Tokens of the prompt that prefill is measured with."""
CONTEXT = 50
"""Tokens read before the first token of decode."""

BASE, MOLORA, RECORDED = "base", "molora", "molora_recorded"
_RATIOS = {"molora_over_base": (MOLORA, BASE), "recording_on_over_off": (RECORDED, MOLORA)}

Seconds = dict[str, list[float]]
"""System -> seconds in each round."""


class System(NamedTuple):
    """A model, and the routers of it that are recorded."""

    model: Any
    tokenizer: Any
    grid: RouterGrid

    def reading(self, capacity: int) -> Reading:
        return Reading(self.model, self.tokenizer, self.grid, Lock(), capacity, candidates=bool(self.grid.routers))


def systems_of(engine: Engine, base: Any) -> dict[str, System]:
    """The base alone, the engine's model with nothing recorded, and the same with every router recorded."""
    recorded = RouterGrid.of(engine.model)
    unrecorded = RouterGrid([], [], (), 0, 0, recorded.uses_cache)
    return {
        BASE: System(base, engine.tokenizer, unrecorded),
        MOLORA: System(engine.model, engine.tokenizer, unrecorded),
        RECORDED: System(engine.model, engine.tokenizer, recorded),
    }


def measure_prefill(systems: dict[str, System], length: int, rounds: int) -> Seconds:
    """Seconds to read a prompt of `length` tokens; the first round, which warms up, is left out."""
    ids = _tokens(systems, length)
    seconds: Seconds = {name: [] for name in systems}
    for _ in tqdm(range(rounds + 1), desc=f"prefill of {length} tokens"):
        for name, system in systems.items():
            reading = system.reading(length)
            with reading.recording():
                seconds[name].append(_timed(reading, ids))
    return {name: times[1:] for name, times in seconds.items()}


def measure_decode(systems: dict[str, System], rounds: int) -> Seconds:
    """Seconds to read one token more, after `CONTEXT` tokens and a few that warm up."""
    warm = min(4, rounds)
    ids = _tokens(systems, CONTEXT + warm + rounds)
    seconds: Seconds = {name: [] for name in systems}
    readings = {name: system.reading(len(ids)) for name, system in systems.items()}
    for reading in readings.values():
        with reading.recording():
            _timed(reading, ids[:CONTEXT])
    for at in tqdm(range(CONTEXT, len(ids)), desc="decode"):
        for name, reading in readings.items():
            with reading.recording():  # the systems share one model: each system's hooks are on in its turn alone
                seconds[name].append(_timed(reading, ids[at : at + 1]))
    return {name: times[warm:] for name, times in seconds.items()}


def ratios(job: str, seconds: Seconds) -> dict[str, float]:
    """`decode_molora_over_base` and so on: medians of the ratios within each round."""
    return {
        f"{job}_{name}": statistics.median(a / b for a, b in zip(seconds[over], seconds[under], strict=True))
        for name, (over, under) in _RATIOS.items()
    }


def run(model: str, base: str | None, quantize: Quantize, device: str, quick: bool) -> dict[str, Any]:
    """The whole report: the machine, medians in milliseconds, ratios. Raises MoloraError for what cannot be loaded."""
    started = time.perf_counter()
    engine = load(model, base, quantize, device)
    load_seconds = time.perf_counter() - started
    plain, _ = load_base(engine.info.base, quantize, device)
    systems = systems_of(engine, plain.eval())
    seconds = {
        "decode": measure_decode(systems, 60 if quick else 200),
        f"prefill{PREFILL}": measure_prefill(systems, PREFILL, 3 if quick else 9),
    }
    return {
        "date": date.today().isoformat(),
        "machine": _machine(engine),
        "model": engine.info.model,
        "quantization": engine.info.quantization,
        "load_seconds": round(load_seconds, 2),
        "milliseconds": {
            job: {name: round(1000 * statistics.median(times), 2) for name, times in by_system.items()}
            for job, by_system in seconds.items()
        },
        "ratios": {
            name: round(ratio, 3)
            for job, by_system in seconds.items()
            for name, ratio in ratios(job, by_system).items()
        },
    }


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = [
        f"{report['model']} ({report['quantization']}) on {report['machine']['processor']}, {report['date']}",
        "",
        "| | base | MoLoRA | MoLoRA, recorded | MoLoRA / base | recording on / off |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for job, medians in report["milliseconds"].items():
        times = " | ".join(f"{medians[name]:.1f} ms" for name in (BASE, MOLORA, RECORDED))
        shares = " | ".join(f"{report['ratios'][f'{job}_{name}']:.2f}" for name in _RATIOS)
        lines.append(f"| {job} | {times} | {shares} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m molora.bench", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--model", default="demo", help="hub id, folder, or 'demo'")
    parser.add_argument("--base", help="hub id or folder of the base; default: the one the checkpoint names")
    parser.add_argument("--quantize", choices=QUANTIZE, default="auto", help="of the base")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: under a minute for the demo on a CPU")
    parser.add_argument("--json", type=Path, help="file for the report")
    args = parser.parse_args(argv)
    try:
        report = run(args.model, args.base, args.quantize, args.device, args.quick)
    except MoloraError as error:
        print(error, file=sys.stderr)
        return 1
    print(table(report))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


def _timed(reading: Reading, ids: Sequence[int]) -> float:
    started = time.perf_counter()
    for logits in reading.prefill(ids, [PROMPT] * len(ids)):
        if logits.is_cuda:
            torch.cuda.synchronize(logits.device)
    return time.perf_counter() - started


def _tokens(systems: dict[str, System], count: int) -> list[int]:
    """Any tokens will do: the time to read one does not hang on which it is."""
    vocabulary: int = next(iter(systems.values())).model.config.vocab_size
    return torch.randint(vocabulary, (count,), generator=torch.Generator().manual_seed(0)).tolist()


def _machine(engine: Engine) -> dict[str, Any]:
    cuda = engine.info.device.startswith("cuda")
    return {
        "processor": torch.cuda.get_device_name() if cuda else f"{torch.get_num_threads()} CPU cores",
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    sys.exit(main())
