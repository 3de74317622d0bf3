"""One run: loads or makes the systems, lets them take turns at every job, and puts all of it into one report."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping
from datetime import date
from typing import Any, NamedTuple, cast

from molora.base import Quantize, load_base, resolve_device, resolve_quantize
from molora.bench import measuring
from molora.bench.fresh import device_bytes, first_token_seconds, fresh, loaded
from molora.bench.generate import GENERATE, generate_turn
from molora.bench.length import Cost, costs
from molora.bench.llamacpp import LLAMACPP, llama_of
from molora.bench.machine import machine
from molora.bench.made import made_base, made_engine
from molora.bench.measuring import CONTEXT, TURN, Effort, Seconds, Turn, interleaved, ratio
from molora.bench.memory import bytes_a_token, copy_bytes_a_second, peak_device_bytes, peak_host_bytes
from molora.bench.report import LABELS
from molora.bench.systems import BASE, LOOP, LORA, MOLORA, RECORDED, XLORA, System, missing, systems_of
from molora.engine import Engine
from molora.errors import MoloraError
from molora.fast import fits
from molora.loading import load
from molora.machine import Precision, look, need
from molora.shapes import SHAPES

PAIRS = {
    "molora_over_base": (MOLORA, BASE),
    "recording_on_over_off": (RECORDED, MOLORA),
    "loop_over_molora": (LOOP, MOLORA),
    "lora_over_base": (LORA, BASE),
    "molora_over_lora": (MOLORA, LORA),
    "xlora_over_molora": (XLORA, MOLORA),
    "generate_over_molora": (GENERATE, MOLORA),
    "speed_over_llamacpp": (LLAMACPP, RECORDED),
}
"""Name of a ratio of times -> the two systems. The last is one of speeds: llama.cpp's time by MoLoRA's with records."""

FULL = {
    "decode": Effort(30, 10, 100),
    "decode_batch8": Effort(20, 3, 60),
    "prefill32": Effort(20, 3, 60),
    "prefill512": Effort(90, 2, 60),
    "prefill4096": Effort(40, 1, 10),
}
"""Together under five minutes for the demo on a CPU: of the longest only base and MoLoRA have a turn, see `_turns`"""
ON_A_GPU = {job: effort._replace(seconds=effort.seconds * 0.4) for job, effort in FULL.items()}
"""Its passes are short, and three sizes are to be had in one sitting"""
QUICK = {
    "decode": Effort(3, 8, 40),
    "prefill512": Effort(3, 3, 9),
}
"""Under 50 seconds for the demo on a CPU, once what it needs is compiled, which takes two thirds as long. A token has
rounds enough that a turn in which something else ran does not decide its ratios."""


class TooLargeError(MoloraError):
    """A size that is too large for this machine."""


class Subject(NamedTuple):
    """What is measured, loaded."""

    engine: Engine
    base: Any
    fresh: dict[str, Any]
    """Of a program that only loads and answers; without loading times for weights made on the spot"""


def run(
    model: str, base: str | None = None, quantize: Quantize = "auto", device: str = "auto", quick: bool = False
) -> dict[str, Any]:
    """The report. `model`: hub id, folder, "demo", or a name of `SHAPES`, whose weights are then made at random.

    Raises MoloraError for what cannot be loaded.
    """
    device = resolve_device(device)
    started = time.perf_counter()
    subject = _subject(model, base, quantize, device, quick)
    bandwidth = copy_bytes_a_second(device)
    seconds: dict[str, Seconds] = {}
    with (
        systems_of(subject.engine, subject.base, xlora=not quick) as systems,
        llama_of(model, max(512, CONTEXT + 101 * TURN), device) as (llama, no_llama),
    ):
        efforts = QUICK if quick else FULL if device == "cpu" else ON_A_GPU
        room = subject.engine.info.context_length
        for job, effort in efforts.items():
            turns = _turns(job, effort, systems, room, llama)
            if turns:
                seconds[job] = interleaved(job, turns, effort, int(effort.least > 1), _slow(job, turns))
        late = costs(subject.engine) if not quick and fits(subject.engine.model) else []
        absent = missing(systems) | ({} if llama else {LLAMACPP: no_llama})
        needed = {name: bytes_a_token(systems[name].model) for name in (BASE, MOLORA)}
    for name, why in absent.items():
        print(f"Without {LABELS[name]}: {why}", file=sys.stderr, flush=True)
    info = subject.engine.info
    return {
        "date": date.today().isoformat(),
        "machine": machine(device),
        "model": model,
        "weights": "random, in the released layout" if model in SHAPES else "as loaded",
        "quantization": info.quantization,
        "precision": info.precision,
        "quick": quick,
        **subject.fresh,
        "run_peak_host_bytes": peak_host_bytes(),
        "run_peak_device_bytes": peak_device_bytes(),
        "run_seconds": round(time.perf_counter() - started, 1),
        "rounds": {job: len(times[BASE]) for job, times in seconds.items()},
        "milliseconds": _medians(seconds),
        "ratios": _ratios(seconds) | {"peak_device_over_needed": _memory_ratio(subject.fresh)},
        "lengths": [one._asdict() for one in late],
        "bandwidth": _bandwidth(bandwidth, needed, seconds.get("decode", {})),
        "missing": absent,
    }


def late_tokens(model: str, base: str | None, quantize: Quantize, device: str) -> list[Cost]:
    """What a token costs early and late in a long text. Raises MoloraError for what cannot be loaded, or is no decoder
    that the lean pass fits."""
    device = resolve_device(device)
    made = _made(model, quantize, device).engine if model in SHAPES else load(model, base, quantize, device)
    if not fits(made.model):
        raise MoloraError(f"{model} takes its modules for every token; --length is not for such models.")
    return costs(made)


def _subject(model: str, base: str | None, quantize: Quantize, device: str, quick: bool) -> Subject:
    if model in SHAPES:
        return _made(model, quantize, device)
    if quick:
        engine, alone = loaded(model, base, quantize, device)
    else:
        print(f"Loading {model}, first in a process of its own ...", file=sys.stderr, flush=True)
        alone = fresh(model, base, quantize, device)
        engine = load(model, base, quantize, device)
    bare, _ = load_base(engine.info.base, quantize, device)
    return Subject(engine, bare.eval(), alone)


def _made(name: str, quantize: Quantize, device: str) -> Subject:
    """Raises TooLargeError where a CPU's memory has not the room, which the system would end the program for."""
    precision = resolve_quantize(quantize, device)
    needed, free = need(SHAPES[name], cast("Precision", precision), 1, cpu=True).total, look().memory_free
    if device == "cpu" and needed > free:
        raise TooLargeError(f"{name} needs {needed / 2**30:.1f} GiB of memory and {free / 2**30:.1f} are free here.")
    started = time.perf_counter()
    base = made_base(SHAPES[name], precision, device)
    engine = made_engine(SHAPES[name], base, precision, device, name)
    made = round(time.perf_counter() - started, 2)
    held = peak_device_bytes()
    first_token_seconds(engine)  # warms up
    first = round(first_token_seconds(engine), 3)
    alone = {"load_seconds": None, "made_seconds": made, "first_token_seconds": first}
    return Subject(engine, base, alone | {"peak_device_bytes_making": held} | device_bytes(engine))


def _turns(job: str, effort: Effort, systems: Mapping[str, System], room: int, llama: Any) -> dict[str, Turn]:
    """One turn for each system that takes part; none where the job is longer than the model reads."""
    rounds = effort.most + 1
    if job != "prefill32":  # X-LoRA reads everything anew for each token, through all experts, twice: it gets one job
        systems = {name: system for name, system in systems.items() if name != XLORA}
    if job == "decode":
        turns = measuring.decode_turns(systems, rounds)
        turns[GENERATE] = generate_turn(systems[BASE].model, measuring.tokens(systems, CONTEXT))
        if llama:
            turns[LLAMACPP] = llama.decode_turn(measuring.tokens(systems, CONTEXT + rounds * TURN))
        return turns
    if job == "decode_batch8":
        return measuring.batch_turns(systems, rounds)
    length = int(job.removeprefix("prefill"))
    if length > room:
        return {}
    few = {name: system for name, system in systems.items() if length <= 512 or name in (BASE, MOLORA, RECORDED)}
    turns = measuring.prefill_turns(few, length)
    if llama and length == 512:
        turns[LLAMACPP] = llama.prefill_turn(measuring.tokens(systems, length))
    return turns


def _slow(job: str, turns: Mapping[str, Turn]) -> set[str]:
    """What takes several times as long as the base. llama.cpp is slow at prompts alone."""
    return set(turns) - {BASE, MOLORA, RECORDED} - ({LLAMACPP} if job == "decode" else set())


def _medians(seconds: dict[str, Seconds]) -> dict[str, dict[str, float]]:
    return {
        job: {name: round(1000 * statistics.median(times.values()), 3) for name, times in by_system.items()}
        for job, by_system in seconds.items()
    }


def _ratios(seconds: dict[str, Seconds]) -> dict[str, float | None]:
    """`decode_molora_over_base` and so on; null where one of the two was not measured."""
    found = {
        f"{job}_{name}": ratio(by_system, *pair) for job, by_system in seconds.items() for name, pair in PAIRS.items()
    }
    return {name: None if value is None else round(value, 3) for name, value in found.items()}


def _memory_ratio(alone: Mapping[str, Any]) -> float | None:
    """None where nothing is on a device."""
    peak = alone["peak_device_bytes"]
    return None if peak is None else round(peak / alone["needed_device_bytes"], 3)


def _bandwidth(copied: float, needed: dict[str, int], decode: Seconds) -> dict[str, Any]:
    """The share of the memory's speed that decode at batch 1 reaches."""
    times = {name: statistics.median(decode[name].values()) for name in needed if decode}
    shares = {name: round(needed[name] / seconds / copied, 3) for name, seconds in times.items()}
    return {"copy_gb_a_second": round(copied / 1e9, 1), "bytes_a_token": needed, "share": shares}
