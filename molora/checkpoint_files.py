"""What lies in a checkpoint's folder, and what its small files say; nothing here needs torch.

See `molora.checkpoint` for what the weight files hold.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from molora.config import MoloraConfig
from molora.demo import DEMO
from molora.errors import MoloraError
from molora.hub import is_hub_id

Part = Literal["adapter_model", "non_lora_trainables"]
PARTS: tuple[Part, ...] = ("adapter_model", "non_lora_trainables")
_SUFFIXES = (".safetensors", ".bin")

FILES = (
    "config.json",
    "adapter_config.json",
    *(f"{part}{suffix}" for part in PARTS for suffix in _SUFFIXES),
)
"""All that is read of a checkpoint folder."""

OWN_BASE = "base"
"""How a checkpoint names a base that lies in its own folder, below this name; see `molora.quantize`."""


def read_settings(folder: Path) -> tuple[dict[str, Any], MoloraConfig]:
    """`config.json` as it stands, and the mixture's settings. Raises MoloraError for a missing or damaged file."""
    config = _read_json(folder / "config.json")
    return config, MoloraConfig.from_files(config, _read_json(folder / "adapter_config.json"))


def weight_file(folder: Path, part: Part) -> Path | None:
    return next((path for suffix in _SUFFIXES if (path := folder / f"{part}{suffix}").is_file()), None)


def sha256_of(files: Iterable[Path]) -> str:
    """Of several files, one after the other."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def base_of(folder: Path, config: MoloraConfig) -> str:
    """The base that a checkpoint names. Released ones may name a folder of their author's machine. Raises MoloraError
    if it is neither here nor on the hub."""
    name = config.base
    if name == OWN_BASE and (folder / OWN_BASE).is_dir():
        return str(folder / OWN_BASE)
    if name == DEMO or is_hub_id(name) or (Path(name).is_dir() and name):
        return name
    if match := re.search(r"(Qwen1\.5-[\d.]+B(?:-Chat)?)/?$", name):
        return f"Qwen/{match[1]}"
    raise MoloraError(
        f"The checkpoint in {folder} names its base {name!r}, which is no folder here and no hub id. "
        "Say which base it was trained on with --base."
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MoloraError(f"{path.parent} holds no {path.name}; it is no MoLoRA checkpoint or lacks files.") from None
    except (OSError, ValueError) as error:
        raise MoloraError(f"{path} cannot be read as JSON ({error}). Get the file again.") from error
    if not isinstance(values, dict):
        raise MoloraError(f"{path} holds {type(values).__name__}; an object with settings is expected.")
    return values
