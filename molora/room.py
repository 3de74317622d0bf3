"""A new folder for something large: whether its disk has the room, and nothing half written left behind."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from molora.errors import MoloraError


@contextmanager
def new_folder(folder: Path, needed: int) -> Iterator[None]:
    """Makes the folder and, if what is to write into it fails or is interrupted, empties it again, so that the same
    command may be given once more.

    Raises MoloraError if it holds something already, or its disk has not `needed` bytes, before anything is written.
    """
    _check(folder, needed)
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException as error:
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        if made:
            folder.rmdir()
        if isinstance(error, SafetensorError):
            raise MoloraError(f"{folder} could not be written: {error}. Has its disk the room?") from error
        raise


def _check(folder: Path, needed: int) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise MoloraError(f"{folder} exists and is not empty; name a new folder, so that nothing is overwritten.")
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise MoloraError(
            f"{folder} needs {needed / 2**30:.1f} GiB and its disk has {free / 2**30:.1f} free. Make room there, name "
            "a folder on another disk, or take a smaller model."
        )
