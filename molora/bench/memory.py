"""Bytes: what a process held at most, what a token must read, and how fast this machine's memory is."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from molora import fast
from molora.wrap import wrapped_linears


def peak_host_bytes() -> int:
    """The most memory this process ever held (resident set). Linux counts it anew for each program; elsewhere what
    `getrusage` says."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
    except (OSError, StopIteration):
        import resource
        import sys

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def peak_device_bytes() -> int | None:
    """None where there is no CUDA device; else over all of them."""
    if not torch.cuda.is_available():
        return None
    return sum(torch.cuda.max_memory_allocated(device) for device in range(torch.cuda.device_count()))


def bytes_a_token(model: nn.Module) -> int:
    """What one token of decode must read of the weights: all linears, and of a mixture the picked experts alone.

    Where the lean pass reads copies of its own, those count. The embedding is one row and counts only where it is the
    head as well; keys and values are left out.
    """
    if fast.fits(model):
        return fast.step_of(model).nbytes
    total, seen = 0, set[int]()
    picked: dict[int, float] = {}
    for linear in wrapped_linears(model).values():
        share = linear.router.top_k / linear.num_experts if linear.router is not None else 1.0
        picked |= {id(linear.lora_A): share, id(linear.lora_B): share}
    embedding = {id(one.weight) for one in model.modules() if isinstance(one, nn.Embedding)}
    head: Any = getattr(model, "lm_head", None)
    tied = id(head.weight) if head is not None else 0
    for one in model.parameters():
        if id(one) in seen or (id(one) in embedding and id(one) != tied):
            continue
        seen.add(id(one))
        total += int(_bytes(one) * picked.get(id(one), 1.0))
    return total


def _bytes(weight: Any) -> int:
    """With the scales of bitsandbytes' blocks: 4 bits are 4.127 a weight under double quantization."""
    total: int = weight.numel() * weight.element_size()
    state = getattr(weight, "quant_state", None)
    if state is not None:
        total += state.absmax.numel() * state.absmax.element_size()
        if state.nested:
            total += state.state2.absmax.numel() * state.state2.absmax.element_size()
    return total


def copy_bytes_a_second(device: str, size: int = 256 * 2**20, rounds: int = 7) -> float:
    """Measured: a large copy on the device, its reading and its writing counted."""
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    times = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        target.copy_(source)
        if source.is_cuda:
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return 2 * size / statistics.median(times[1:])
