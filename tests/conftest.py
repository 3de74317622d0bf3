"""Fixtures that several parts share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import absl.logging
import pytest
import torch

# Triton's interpreter runs a GPU's kernels on tensors of the CPU; it is to be asked for before anything imports Triton.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

import molora
from molora.engine import Engine
from tests.released import make_base, make_checkpoint


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if "cuda" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))


# rouge-score brings absl, whose log handler keeps the stderr of its import, here one that pytest captures, and closes
# it when a server sets up logging.
absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random Qwen2 chat model."""
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def checkpoint(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MoLoRA checkpoint on it in the released layout."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"), base)


@pytest.fixture(scope="session")
def engine(checkpoint: Path) -> Engine:
    """The two together."""
    return molora.load(str(checkpoint))
