"""`python -m tests.fast.gpu.compile_all`: every kernel as machine code for GPUs that need not be there."""

from __future__ import annotations

from itertools import product
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from molora.fast.gpu import kernels, likeliest

HALF, FLOAT = "*bf16", "*fp32"
MIXTURE = {"E": 8, "R": 16, "K": 2, "MASKED": False, "E2": 8, "R2": 16, "BLOCK": 32}
SHARED = {"h": FLOAT, "b": HALF, "logits": FLOAT, "masks": FLOAT, "rows": FLOAT, "out": HALF}
THREE = {f"base{part}": HALF for part in range(3)} | {f"outputs{part}": "i32" for part in range(3)}

READS = {"x": HALF, "a": HALF, "router": FLOAT, "bias": FLOAT, "h": FLOAT, "logits": FLOAT, "projected": "i32"}
TURNS = {"states": HALF, "cos": HALF, "sin": HALF, "places": "*i64", "query": HALF, "buffer": HALF}
TURNS |= {"room": "i32", "tokens": "i32", "scale": "fp32"}
WEIGHS = {"h": HALF, "logits": FLOAT, "masks": FLOAT, "rows": FLOAT, "apart": "i32", "scaling": "fp32"}
FOUND = {"values": FLOAT, "ids": "*i32", "highest": FLOAT, "total": FLOAT}

CASES: list[tuple[Any, dict[str, str], dict[str, Any]]] = [
    (kernels.lowered, READS, {"INPUTS": 11008, "BLOCK": 4096}),
    (kernels.normed, {"x": HALF, "weight": HALF, "out": HALF, "epsilon": "fp32"}, {"INPUTS": 5120, "BLOCK": 8192}),
    (kernels.turned, TURNS, {"HEADS": 32, "GROUPS": 8, "SIZE": 80, "BLOCK": 128}),
    (likeliest._highest_of_part, {"logits": HALF, **FOUND}, {"SIZE": 151936, "PART": 1024, "C": 5}),
    (likeliest._highest_of_all, {**FOUND, "out": FLOAT}, {"PARTS": 149, "PARTS2": 256, "FOUND2": 1024, "C": 5}),
]
for masked, kind in product((False, True), ({}, {"K": 0, "E": 1, "E2": 1}, {"K": 0, "E": 1, "E2": 1, "R": 0, "R2": 1})):
    sizes = MIXTURE | kind | {"MASKED": masked}
    if sizes["K"]:
        CASES.append((kernels.weighed, WEIGHS, {name: size for name, size in sizes.items() if name != "BLOCK"}))
    CASES.append((kernels.gated, {**SHARED, "gate": HALF, "up": HALF, "outputs": "i32", "scaling": "fp32"}, sizes))
    for residual in (False, True):
        raised = {**SHARED, **THREE, "residual": HALF, "scaling": "fp32"}
        CASES.append((kernels.raised, raised, {"RESIDUAL": residual, **sizes}))


def main() -> None:
    for kernel, given, sizes in CASES:
        signature = {name: given.get(name, "constexpr") for name in kernel.arg_names}
        source = ASTSource(fn=kernel, signature=signature, constexprs=sizes)
        made = triton.compile(source, target=GPUTarget("cuda", 80, 32))
        print(kernel.__name__, len(made.asm["cubin"]))


if __name__ == "__main__":
    main()
