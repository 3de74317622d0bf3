"""The released MING-MOE file layout <-> tensors, strict both ways.

| file | content |
| --- | --- |
| `config.json` | the base's config and the mixture's settings |
| `adapter_config.json`, `adapter_model.*` | plain LoRA in PEFT's layout |
| `non_lora_trainables.*` | routers ("switch") and experts of the FFN projections |

Either weight file may be `.safetensors` or `.bin`; only safetensors are written.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from molora.checkpoint_files import PARTS, Part, read_settings, sha256_of, weight_file
from molora.config import MoloraConfig
from molora.errors import MoloraError
from molora.layers import MoloraLinear
from molora.wrap import wrapped_linears

_WRITTEN_PREFIX = "base_model.model.model."
_PREFIX = re.compile(r"^(?:base_model\.)?(?:model\.)*(?=layers\.\d+\.)")


@dataclass(frozen=True)
class Checkpoint:
    """A folder's settings and tensors as they stand on the disk, before they meet a model."""

    folder: Path
    config: MoloraConfig
    base_config: dict[str, Any]
    """`config.json` as read: names the sizes of the base that it was trained on"""
    tensors: dict[Part, dict[str, Tensor]]
    """released name without its prefix (`layers.0.mlp.gate_proj.switch.weight`) -> tensor, in the file's dtype"""
    sha256: str
    """of the weight files, one after the other"""

    @property
    def dtype(self) -> torch.dtype:
        return next(tensor.dtype for part in self.tensors.values() for tensor in part.values())


class Slot(NamedTuple):
    """One tensor of the released layout: where it is kept and its place in the model."""

    part: Part
    name: str
    tensor: Tensor
    """A view into the parameter: copying into it loads, reading it saves"""


def slots(model: nn.Module) -> Iterator[Slot]:
    """Every tensor that a checkpoint of this wrapped model holds."""
    for name, linear in wrapped_linears(model).items():
        if linear.router is None:
            yield Slot("adapter_model", f"{name}.lora_A.weight", linear.lora_A.data)
            yield Slot("adapter_model", f"{name}.lora_B.weight", linear.lora_B.data)
        else:
            yield Slot("non_lora_trainables", f"{name}.switch.weight", linear.router.weight.data)
            yield Slot("non_lora_trainables", f"{name}.switch.bias", linear.router.bias.data)
            yield from _expert_slots(name, linear)


def _expert_slots(name: str, linear: MoloraLinear) -> Iterator[Slot]:
    for e in range(linear.num_experts):
        rows = slice(e * linear.r, (e + 1) * linear.r)
        yield Slot("non_lora_trainables", f"{name}.experts.{e}.lora_A_{e}.weight", linear.lora_A.data[rows])
        yield Slot("non_lora_trainables", f"{name}.experts.{e}.lora_B_{e}.weight", linear.lora_B.data[:, rows])


def read_checkpoint(folder: Path) -> Checkpoint:
    """Reads a folder in the released layout. Raises MoloraError for a missing or damaged file."""
    if not folder.is_dir():
        raise MoloraError(f"There is no folder {folder}. Give a folder of a checkpoint, or a hub id like owner/name.")
    base_config, config = read_settings(folder)
    tensors: dict[Part, dict[str, Tensor]] = {}
    read: list[Path] = []
    for part in PARTS:
        path = weight_file(folder, part)
        if path is None:
            if _needed(part, config):
                raise MoloraError(_missing_file(folder, part))
            continue
        tensors[part] = _without_prefix(_read_tensors(path), path)
        for name, tensor in tensors[part].items():
            if not tensor.is_floating_point() or not tensor.isfinite().all():
                raise MoloraError(f"{path}: {name} holds values that are not finite numbers. Get the file again.")
        read.append(path)
    return Checkpoint(folder, config, base_config, tensors, sha256_of(read))


def check_fit(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Raises MoloraError if any tensor is missing, left over, or of another shape than `model` (wrapped; it may lie on
    the meta device) has a place for. Changes nothing."""
    wanted: dict[Part, dict[str, Tensor]] = {part: {} for part in PARTS}
    for slot in slots(model):
        wanted[slot.part][slot.name] = slot.tensor
    for part in PARTS:
        found, expected = checkpoint.tensors.get(part, {}), wanted[part]
        where = f"{part} in {checkpoint.folder}"
        for name, tensor in found.items():
            if name not in expected:
                raise MoloraError(
                    f"{where} holds {name} {list(tensor.shape)}, for which the model has no place ({_sizes(model)}). "
                    "Is this the base the checkpoint was trained on, and num_experts in config.json right?"
                )
            if tensor.shape != expected[name].shape:
                raise MoloraError(
                    f"{where}: {name} has shape {list(tensor.shape)}; {list(expected[name].shape)} was expected "
                    f"({_sizes(model)}). Is this the base the checkpoint was trained on, and r right?"
                )
        if missing := sorted(expected.keys() - found.keys()):
            raise MoloraError(
                f"{where} lacks {missing[0]} {list(expected[missing[0]].shape)}"
                + (f" and {len(missing) - 1} more tensors" if len(missing) > 1 else "")
                + ". The download may be incomplete; get the checkpoint again."
            )


@torch.no_grad()
def fill(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Copies the checkpoint into the wrapped model, all of it or, with a MoloraError, none of it."""
    check_fit(checkpoint, model)
    for slot in tqdm(list(slots(model)), desc="Loading adapter", leave=False, delay=1):
        slot.tensor.copy_(checkpoint.tensors[slot.part][slot.name])


def write_checkpoint(
    folder: Path, model: nn.Module, config: MoloraConfig, base_config: dict[str, Any], dtype: torch.dtype
) -> None:
    """Writes the adapter of a wrapped model in the released layout, as safetensors of `dtype`, and reads it back."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[Part, dict[str, Tensor]] = {part: {} for part in PARTS}
    for slot in slots(model):
        tensors[slot.part][_WRITTEN_PREFIX + slot.name] = slot.tensor.to("cpu", dtype).contiguous()
    ours, adapter_config = config.to_files()
    for part, content in tensors.items():
        (folder / f"{part}.bin").unlink(missing_ok=True)
        if content:
            save_file(content, folder / f"{part}.safetensors", metadata={"format": "pt"})
        else:
            (folder / f"{part}.safetensors").unlink(missing_ok=True)
    for name, values in (("config.json", base_config | ours), ("adapter_config.json", adapter_config)):
        (folder / name).write_text(json.dumps(values, indent=2, default=str) + "\n", encoding="utf-8")
    check_fit(read_checkpoint(folder), model)


def _needed(part: Part, config: MoloraConfig) -> bool:
    return config.has_routers if part == "non_lora_trainables" else bool(config.target_modules)


def _missing_file(folder: Path, part: Part) -> str:
    names = f"{folder} holds neither {part}.safetensors nor {part}.bin"
    if part == "non_lora_trainables":
        return f"{names}: the routers and experts are missing. Download the whole checkpoint; plain LoRA is not enough."
    return f"{names}: the attention LoRA is missing. Download the whole checkpoint."


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """A state dict from safetensors, or from a pickle that can hold nothing but tensors."""
    try:
        content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise MoloraError(
            f"{path} is a pickle with more than plain tensors in it, or is damaged; it was not run. Get the file again "
            "from a source you trust, or ask its author for safetensors."
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        raise MoloraError(f"{path} is damaged or cut short ({error}). Get the file again.") from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise MoloraError(f"{path} holds no state dict (names with tensors). Get the file again.")
    return content


def _without_prefix(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Released prefixes vary (`base_model.model.model.`, `base_model.model.`, `model.model.`); the rest does not."""
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        short = _PREFIX.sub("", str(name)).replace(".default.weight", ".weight")
        if short in plain:
            raise MoloraError(f"{path} holds {short} twice, under two prefixes. Get the file again.")
        plain[short] = tensor
    if not plain:
        raise MoloraError(f"{path} holds no tensors. Get the file again.")
    return plain


def _sizes(model: nn.Module) -> str:
    config: Any = model.config
    return f"{config.num_hidden_layers} layers, hidden {config.hidden_size}, FFN {config.intermediate_size}"
