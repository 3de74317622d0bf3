from __future__ import annotations

from pathlib import Path

import pytest
from safetensors import SafetensorError

from molora.errors import MoloraError
from molora.room import new_folder


def test_what_is_written_stays(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a" / "b", 1):
        (tmp_path / "a" / "b" / "one").write_text("kept")
    assert (tmp_path / "a" / "b" / "one").read_text() == "kept"


def half_write(folder: Path, error: BaseException) -> None:
    with new_folder(folder, 1):
        (folder / "base").mkdir()
        (folder / "base" / "shard").write_text("half")
        (folder / "config.json").write_text("half")
        raise error


@pytest.mark.parametrize(
    ("error", "told"), [(KeyboardInterrupt(), KeyboardInterrupt), (SafetensorError("I/O error"), MoloraError)]
)
@pytest.mark.parametrize("there", [True, False])
def test_nothing_half_written_is_left(tmp_path: Path, error: BaseException, told: type, there: bool) -> None:
    folder = tmp_path / "new"
    if there:
        folder.mkdir()
    with pytest.raises(told):
        half_write(folder, error)
    assert folder.exists() == there
    assert not there or not list(folder.iterdir())
