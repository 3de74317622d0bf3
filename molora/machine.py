"""What this machine has, what each MING-MOE needs, and whether it fits, before anything is downloaded.

Pure functions over `Machine` and `Shape`; `look` alone asks the machine, and nothing asks the network.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Literal, NamedTuple

from molora.errors import MoloraError
from molora.shapes import SHAPES, Shape

GIB = 2**30
CONTEXT = 4096

Precision = Literal["none", "8bit", "4bit"]
NAMES: dict[Precision, str] = {"none": "bf16", "8bit": "int8", "4bit": "NF4"}
BYTES_A_WEIGHT: dict[Precision, float] = {"none": 2.0, "8bit": 1.0, "4bit": (4 + 8 / 64 + 32 / (64 * 256)) / 8}
"""Of the layers' linears. NF4 in blocks of 64 with a scale of 8 bits each, and a scale of those for 256 (QLoRA,
arXiv 2305.14314, section 3); the scale a row of int8 needs is too small to count."""

WORKSPACE = GIB
"""CUDA itself, activations of a pass of 512 tokens, the recorder's buffers."""


class Gpu(NamedTuple):
    name: str
    free: int
    total: int


class Machine(NamedTuple):
    """Sizes in bytes."""

    gpus: tuple[Gpu, ...]
    memory: int
    memory_free: int
    cores: int
    folder: Path
    """Where the hub's downloads are kept"""
    disk_free: int


class Need(NamedTuple):
    """Bytes."""

    weights: int
    adapter: int
    cache: int
    download: int
    """The base in bf16 and the adapter, whatever they are packed to later"""

    @property
    def total(self) -> int:
        return self.weights + self.adapter + self.cache + WORKSPACE


def need(shape: Shape, precision: Precision, context: int = CONTEXT, *, cpu: bool = False) -> Need:
    """What a conversation of `context` tokens takes. On a CPU all that is not packed is float32, twice as large.

    Raises MoloraError for more tokens than the model reads.
    """
    if not 1 <= context <= shape.context:
        raise MoloraError(f"--context is {context}; the model reads 1 to {shape.context} tokens.")
    wide = 2 if cpu else 1
    packed = BYTES_A_WEIGHT[precision] * (wide if precision == "none" else 1)
    return Need(
        weights=int(shape.linear_weights * packed) + 2 * wide * shape.other_weights,
        adapter=2 * wide * shape.adapter_weights,
        cache=wide * shape.cache_bytes(context),
        download=2 * (shape.linear_weights + shape.other_weights + shape.adapter_weights),
    )


def place(shape: Shape, precision: Precision, machine: Machine, context: int = CONTEXT) -> str:
    """Where it would run: "GPU", "2 GPUs", "CPU", or "no"."""
    free = sorted((gpu.free for gpu in machine.gpus), reverse=True)
    wanted = need(shape, precision, context)
    for count in range(1, len(free) + 1):
        if wanted.total + (count - 1) * WORKSPACE <= sum(free[:count]):
            return "GPU" if count == 1 else f"{count} GPUs"
    return "CPU" if need(shape, precision, context, cpu=True).total <= machine.memory_free else "no"


def report(machine: Machine, context: int = CONTEXT, chosen: str = "", reason: str = "") -> str:
    """A text for the terminal. Raises MoloraError as `need` does."""
    head = ("model", "precision", "weights", "adapter", "cache", "on a GPU", "on a CPU", "download", "runs on")
    rows = [_row(name, precision, machine, context) for name in SHAPES for precision in NAMES]
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    table = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    lines = [
        *_has(machine),
        "",
        f"Each MING-MOE needs, in GiB, for a conversation of {context:,} tokens:",
        *table,
        "",
        "On a CPU what is not packed is float32. A download is the base in bf16 and the adapter; 'no disk': there is",
        f"no room for it in {machine.folder}. The demo needs about 1.5 GiB and runs anywhere.",
    ]
    return "\n".join([*lines, *(["", f"--model auto would take {chosen}: {reason}."] if chosen else [])])


def look(folder: Path | None = None) -> Machine:
    """This machine, as it is now. `folder`: where downloads would go; None: where the hub's client keeps them."""
    import psutil
    import torch
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = folder or Path(HF_HUB_CACHE)
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    memory = psutil.virtual_memory()
    gpus = (
        Gpu(torch.cuda.get_device_name(number), *torch.cuda.mem_get_info(number))
        for number in range(torch.cuda.device_count())
    )
    cores = os.cpu_count() or 1
    return Machine(tuple(gpus), memory.total, memory.available, cores, folder, shutil.disk_usage(there).free)


def check(context: int = CONTEXT) -> str:
    """The report of this machine. Raises MoloraError as `need` does."""
    from molora.loading import choose_model

    return report(look(), context, *choose_model(ask_hub=False))


def _has(machine: Machine) -> list[str]:
    gpus = [f"{gpu.name}, {_gib(gpu.free)} of {_gib(gpu.total)} GiB free" for gpu in machine.gpus]
    return [
        "This machine has:",
        *(f"  GPU {number}: {words}" for number, words in enumerate(gpus)),
        *([] if gpus else ["  no CUDA GPU"]),
        f"  {machine.cores} CPU cores, {_gib(machine.memory_free)} of {_gib(machine.memory)} GiB memory free",
        f"  {_gib(machine.disk_free)} GiB free on the disk of {machine.folder}",
    ]


def _row(name: str, precision: Precision, machine: Machine, context: int) -> tuple[str, ...]:
    shape = SHAPES[name]
    gpu, cpu = need(shape, precision, context), need(shape, precision, context, cpu=True)
    where = place(shape, precision, machine, context)
    if where != "no" and gpu.download > machine.disk_free:
        where += ", no disk"
    sizes = (gpu.weights, gpu.adapter, gpu.cache, gpu.total, cpu.total, gpu.download)
    label = NAMES[precision] if machine.gpus or precision != "none" else "bf16/fp32"
    return (name, label, *map(_gib, sizes), where)


def _gib(count: int) -> str:
    return f"{count / GIB:.1f}"
