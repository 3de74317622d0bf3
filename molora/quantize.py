"""`python -m molora.quantize MODEL OUT`: base and adapter in one folder, the base packed for good.

Loading it reads a quarter of the bytes and packs nothing: seconds instead of minutes, and what a Space ships.

| below the folder | content |
| --- | --- |
| `config.json`, `adapter_*`, `non_lora_trainables.*` | the checkpoint as it was; it names its base `base` |
| `base` | the packed base as transformers saves it, with its tokenizer |
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from molora.base import load_base, packed_as, resolve_device, skeleton
from molora.checkpoint import read_checkpoint
from molora.checkpoint_files import FILES, OWN_BASE, base_of
from molora.demo import DEMO, DEMO_ADAPTER
from molora.errors import MoloraError
from molora.hub import folder_of
from molora.loading import check_base
from molora.machine import BYTES_A_WEIGHT
from molora.native.loading import is_whole
from molora.native.xlora_loading import is_xlora
from molora.room import new_folder

Packed = Literal["4bit", "8bit"]


class Sizes(NamedTuple):
    """Bytes on the disk."""

    base: int
    adapter: int


def quantize(model: str, out: Path, base: str | None = None, packed: Packed = "4bit", device: str = "auto") -> Sizes:
    """Writes the folder, which `molora.load` reads without the original base.

    What is not packed is bf16. Raises MoloraError for a model that is no MoLoRA checkpoint, a base that is packed
    already, a folder that is not empty, or a disk without the room, before a weight is read.
    """
    source = DEMO_ADAPTER if model == DEMO else folder_of(model, FILES)
    if is_whole(source) or is_xlora(source):
        raise MoloraError(f"{model} is no checkpoint in MING-MOE's layout; this command packs those alone.")
    checkpoint = read_checkpoint(source)
    base = base or base_of(checkpoint.folder, checkpoint.config)
    check_base(checkpoint, base)
    if already := packed_as(base):
        raise MoloraError(f"The base of {model} is packed in {already} already; load it as it is.")
    files = [path for name in FILES if (path := source / name).is_file()]
    needed = _packed_bytes(skeleton(base), packed) + sum(path.stat().st_size for path in files)
    device = resolve_device(device)
    with new_folder(out, needed):
        network, tokenizer = load_base(base, packed, device, dtype=torch.bfloat16)
        _write(out, network, tokenizer)
        for path in files:
            shutil.copyfile(path, out / path.name)
        settings: dict[str, Any] = json.loads((source / "adapter_config.json").read_text(encoding="utf-8"))
        name = base if base == DEMO else Path(base).name
        settings |= {"base_model_name_or_path": OWN_BASE, "base_quantized_from": name}
        (out / "adapter_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return Sizes(_bytes_in(out / OWN_BASE), _bytes_in(out))


def _write(out: Path, network: Any, tokenizer: Any) -> None:
    """The base."""
    network.save_pretrained(out / OWN_BASE, max_shard_size="1GB")
    tokenizer.save_pretrained(out / OWN_BASE)
    for path in (out / OWN_BASE).glob("*.safetensors"):
        shutil.copymode(out / OWN_BASE / "config.json", path)  # safetensors lets only the owner read


def _packed_bytes(network: Any, packed: Packed) -> int:
    """Of the base, from its shapes."""
    linears = [one for name, one in network.named_modules() if isinstance(one, nn.Linear) and name != "lm_head"]
    inside = sum(one.weight.numel() for one in linears)
    return int(inside * BYTES_A_WEIGHT[packed]) + 2 * (sum(one.numel() for one in network.parameters()) - inside)


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m molora.quantize", description=(__doc__ or "").partition("\n\n|")[0])
    parser.add_argument("model", help="hub id, folder in the released layout, or 'demo'")
    parser.add_argument("out", type=Path, help="new or empty folder")
    parser.add_argument("--base", help="hub id or folder of the base; default: the one the checkpoint names")
    parser.add_argument("--quantize", choices=("4bit", "8bit"), default="4bit", help="default: 4bit (NF4)")
    parser.add_argument("--device", default="auto", help="where it is packed: auto, cpu, cuda (default: auto)")
    args = parser.parse_args(argv)
    started = time.perf_counter()
    try:
        sizes = quantize(args.model, args.out, args.base, args.quantize, args.device)
    except (MoloraError, OSError) as error:
        print(f"molora.quantize: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"molora.quantize: interrupted; nothing is left in {args.out}.", file=sys.stderr)
        return 130
    print(
        f"{args.out}: base {sizes.base / 1e6:,.1f} MB, adapter {sizes.adapter / 1e6:,.1f} MB, in "
        f"{time.perf_counter() - started:.0f} s. Start it with: python app.py --model {args.out}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
