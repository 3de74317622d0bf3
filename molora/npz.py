"""Objects of named arrays in `.npz` files without pickle: written as they are, read with every axis and type checked.

Texts and dictionaries lie in the file as JSON in UTF-8 bytes. Knows numpy only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from molora.errors import MoloraError


@dataclass(frozen=True)
class Layout:
    """What such an object holds."""

    kind: str
    """As messages call it, "trace" for instance."""
    arrays: dict[str, tuple[type[np.generic], str]]
    """name -> dtype, and one letter an axis; the same letter is the same size everywhere"""
    texts: dict[str, type[Any]]
    """name -> list (of texts) or dict"""
    version: int
    mend: str
    """What to do about a damaged file, as a sentence."""
    later: frozenset[str] = frozenset()
    """Names that came later: a file may lack them all, and then they are not among what `load` gives."""

    def check(self, held: Any, sizes: dict[str, int]) -> None:
        """Raises MoloraError naming both sizes if the shapes do not agree with each other or with `sizes`."""
        sizes = dict(sizes)
        for name, (_, axes) in self.arrays.items():
            shape = np.shape(getattr(held, name))
            if len(shape) != len(axes):
                raise MoloraError(f"{name} has shape {shape}; expected axes [{', '.join(axes)}].")
            for axis, size in zip(axes, shape, strict=True):
                if sizes.setdefault(axis, size) != size:
                    raise MoloraError(
                        f"{name} has {axis} = {size} where the rest of the {self.kind} has {sizes[axis]}."
                    )

    def save(self, held: Any, path: str | Path | IO[bytes]) -> None:
        """Writes a compressed `.npz`."""
        arrays: dict[str, Any] = {name: getattr(held, name) for name in self.arrays}
        texts: dict[str, Any] = {
            name: np.frombuffer(json.dumps(getattr(held, name), default=dict).encode(), np.uint8) for name in self.texts
        }
        if isinstance(path, (str, Path)):
            with Path(path).open("wb") as file:  # numpy would add .npz to a name without it
                np.savez_compressed(file, format=np.int64(self.version), **arrays, **texts)
        else:
            np.savez_compressed(path, format=np.int64(self.version), **arrays, **texts)

    def load(self, path: str | Path | IO[bytes]) -> tuple[dict[str, Any], dict[str, Any]]:
        """(arrays, texts) that `save` wrote. Raises MoloraError if the file is missing, damaged, or of another kind."""
        try:
            with np.load(path, allow_pickle=False) as file:
                lacking = self.later if self.later.isdisjoint(file.files) else frozenset()
                arrays = {name: file[name] for name in self.arrays if name not in lacking}
                texts = {name: json.loads(file[name].tobytes()) for name in self.texts if name not in lacking}
                version = int(file["format"])
        except FileNotFoundError as error:
            raise MoloraError(f"There is no file {path}.") from error
        except Exception as error:  # numpy, zipfile, zlib, tokenize and json have a dozen words for damage
            raise MoloraError(f"{path} is no routing {self.kind}, or is damaged ({error}). {self.mend}") from error
        if version != self.version:
            raise MoloraError(f"{path} has {self.kind} format {version}; this version reads {self.version}.")
        for name, array in arrays.items():
            if array.dtype != (dtype := self.arrays[name][0]):
                raise MoloraError(f"{path}: {name} is {array.dtype}; expected {np.dtype(dtype)}.")
        for name, told in texts.items():
            kind = self.texts[name]
            if not isinstance(told, kind):
                raise MoloraError(f"{path}: {name} is no {'dictionary' if kind is dict else 'list of texts'}.")
            if kind is list and not all(isinstance(text, str) for text in told):
                raise MoloraError(f"{path}: {name} is no list of texts.")
        return arrays, texts
