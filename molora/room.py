"""Whether a folder may be written: it holds nothing yet, and its disk has the room."""

from __future__ import annotations

import shutil
from pathlib import Path

from molora.errors import MoloraError


def check_room(folder: Path, needed: int) -> None:
    """Raises MoloraError if the folder holds something, or its disk has not `needed` bytes."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise MoloraError(f"{folder} exists and is not empty; name a new folder, so that nothing is overwritten.")
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise MoloraError(
            f"{folder} needs {needed / 2**30:.1f} GiB and its disk has {free / 2**30:.1f} free. Make room there, name "
            "a folder on another disk, or take a smaller model."
        )
