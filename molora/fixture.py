"""`python -m molora.fixture --like MING-MOE-1.8B DIR`: a checkpoint and its base with random weights, as released.

For measuring and rehearsing without a download. Written shard by shard: no more than one lies in memory.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from molora.byte_tokenizer import byte_tokenizer
from molora.errors import MoloraError
from molora.room import new_folder
from molora.shapes import SHAPES, Shape

SHARD_BYTES = 2**30
"""A base shard is closed before it grows beyond this; a single larger tensor has one of its own."""

_WIDTH = 0.02
_PREFIX = "base_model.model.model."
Sized = tuple[str, tuple[int, ...]]


class Fixture(NamedTuple):
    base: Path
    """Hugging Face layout, bf16, in shards"""
    adapter: Path
    """Released layout; names the folder of the base"""


def write_fixture(folder: Path, shape: Shape, seed: int = 0, shard_bytes: int = SHARD_BYTES) -> Fixture:
    """Writes `base` and `adapter` below the folder.

    Raises MoloraError, before anything is written, if the folder is not empty or its disk lacks the room.
    """
    needed = 2 * (shape.linear_weights + shape.other_weights + shape.adapter_weights)
    made, generator = Fixture(folder / "base", folder / "adapter"), torch.Generator().manual_seed(seed)
    with (
        new_folder(folder, needed),
        tqdm(total=needed, unit="B", unit_scale=True, desc=f"Writing {folder}") as bar,
    ):
        made.base.mkdir()
        made.adapter.mkdir()
        _write_base(made.base, shape, shard_bytes, generator, bar)
        _write_adapter(made, shape, generator, bar)
    return made


def _write_base(folder: Path, shape: Shape, most: int, generator: torch.Generator, bar: tqdm) -> None:
    tokenizer = byte_tokenizer(shape.vocabulary)
    tokenizer.save_pretrained(folder)
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    _write_json(folder / "config.json", shape.base_config | ids)
    _write_json(folder / "generation_config.json", ids)
    shards = list(_shards(_base_tensors(shape), most))
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        _save(folder / name, shard, generator, bar)
        weight_map |= {tensor: name for tensor, _ in shard}
    size = 2 * (shape.linear_weights + shape.other_weights)
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    _write_json(folder / "model.safetensors.index.json", index)


def _write_adapter(made: Fixture, shape: Shape, generator: torch.Generator, bar: tqdm) -> None:
    """One shard a part, as released."""
    config, adapter_config = shape.config.to_files()
    adapter_config["base_model_name_or_path"] = str(made.base.absolute())
    _write_json(made.adapter / "config.json", shape.base_config | config)
    _write_json(made.adapter / "adapter_config.json", adapter_config)
    for part, mixed in (("adapter_model", False), ("non_lora_trainables", True)):
        _save(made.adapter / f"{part}.safetensors", list(_adapter_tensors(shape, mixed)), generator, bar)


def _base_tensors(shape: Shape) -> Iterator[Sized]:
    yield "model.embed_tokens.weight", (shape.vocabulary, shape.hidden)
    for layer in range(shape.layers):
        yield from shape.layer_tensors(layer)
    yield "model.norm.weight", (shape.hidden,)
    yield "lm_head.weight", (shape.vocabulary, shape.hidden)


def _adapter_tensors(shape: Shape, mixed: bool) -> Iterator[Sized]:
    for layer in range(shape.layers):
        for name, (out, inner) in shape.linears().items():
            at = f"{_PREFIX}layers.{layer}.{name}"
            if not name.startswith("mlp."):
                if not mixed:
                    yield f"{at}.lora_A.weight", (shape.rank, inner)
                    yield f"{at}.lora_B.weight", (out, shape.rank)
            elif mixed:
                yield f"{at}.switch.weight", (shape.experts, inner)
                yield f"{at}.switch.bias", (shape.experts,)
                for e in range(shape.experts):
                    yield f"{at}.experts.{e}.lora_A_{e}.weight", (shape.rank, inner)
                    yield f"{at}.experts.{e}.lora_B_{e}.weight", (out, shape.rank)


def _shards(tensors: Iterator[Sized], most: int) -> Iterator[list[Sized]]:
    shard: list[Sized] = []
    held = 0
    for name, size in tensors:
        count = 2 * torch.Size(size).numel()
        if shard and held + count > most:
            yield shard
            shard, held = [], 0
        shard.append((name, size))
        held += count
    yield shard


def _save(path: Path, shard: list[Sized], generator: torch.Generator, bar: tqdm) -> None:
    tensors: dict[str, Tensor] = {}
    for name, size in shard:
        tensors[name] = torch.empty(size, dtype=torch.bfloat16)
        if name.endswith("norm.weight"):
            tensors[name].fill_(1)
        else:
            tensors[name].normal_(0, _WIDTH, generator=generator)
        bar.update(tensors[name].nbytes)
    save_file(tensors, path, metadata={"format": "pt"})
    shutil.copymode(path.parent / "config.json", path)  # safetensors lets only the owner read


def _write_json(path: Path, values: object) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m molora.fixture", description=__doc__)
    parser.add_argument("folder", type=Path, help="new or empty; 'base' and 'adapter' are written below it")
    parser.add_argument("--like", choices=SHAPES, default="MING-MOE-1.8B", help="default: MING-MOE-1.8B")
    parser.add_argument("--seed", type=int, default=0, help="of the weights (default: 0)")
    args = parser.parse_args(argv)
    if not 0 <= args.seed < 2**63:
        parser.error(f"--seed is {args.seed}; choose a whole number from 0 to {2**63 - 1}")
    try:
        made = write_fixture(args.folder, SHAPES[args.like], args.seed)
    except (MoloraError, OSError) as error:
        print(f"molora.fixture: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"molora.fixture: interrupted; nothing is left in {args.folder}.", file=sys.stderr)
        return 130
    print(f"Start it with: python app.py --model {made.adapter}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
