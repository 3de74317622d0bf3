"""Bytes: what a process held at most, what a token must read, and how fast this machine's memory is."""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from molora import fast
from molora.fast.product import weight_bytes
from molora.wrap import wrapped_linears


def peak_host_bytes() -> int:
    """The most memory this process ever held (resident set): as Linux has it, which counts it anew for each program,
    else Windows, else `getrusage`."""
    held = _status("VmHWM")
    if held is not None:
        return held
    import psutil

    if peak := getattr(psutil.Process().memory_info(), "peak_wset", None):
        return int(peak)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@contextmanager
def private_bytes_gained() -> Iterator[Callable[[], int | None]]:
    """What is yielded tells the most private memory that this process held since, above what it held before.

    Private is what no file backs. A mapped file's pages do not count: the system drops them when others need the room,
    and loading maps all shards at once. Looked at every 2 ms; None where the system does not tell it (Linux does).
    """
    before = most = _status("RssAnon") or 0
    ended = threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.002):
            most = max(most, _status("RssAnon") or 0)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield lambda: most - before if before else None
    finally:
        ended.set()
        watcher.join()


def weights_on_host(model: nn.Module) -> int:
    """Bytes of all weights that lie in the host's memory; what two names share counts once."""
    tensors = [*model.parameters(), *model.buffers()]
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage() for one in tensors if one.device.type == "cpu"}
    return sum(storage.nbytes() for storage in storages.values())


def _status(field: str) -> int | None:
    """Bytes that Linux tells of this process under the name; None elsewhere."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith(f"{field}:")))
    except (OSError, StopIteration):
        return None


def peak_device_bytes() -> int | None:
    """None where there is no CUDA device; else over all of them."""
    if not torch.cuda.is_available():
        return None
    return sum(torch.cuda.max_memory_allocated(device) for device in range(torch.cuda.device_count()))


def needed_bytes(model: Any, tokens: int) -> int:
    """All weights, the adapter's included, and keys and values of so many tokens: what an answer cannot do without."""
    config = model.config
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    cached = 2 * config.num_hidden_layers * heads * size * tokens
    weights = sum(weight_bytes(one) for one in (*model.parameters(), *model.buffers()))
    return weights + cached * model.get_input_embeddings().weight.element_size()


def bytes_a_token(model: nn.Module) -> int:
    """What one token of decode must read of the weights: all linears, and of a mixture the picked experts alone.

    Where the lean pass reads copies of its own, those count. The embedding is one row and counts only where it is the
    head as well; keys and values are left out.
    """
    if step := fast.lean_step(model):
        return step.nbytes
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
        total += int(weight_bytes(one) * picked.get(id(one), 1.0))
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
