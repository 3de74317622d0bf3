from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.fast.gpu.compile_all import CASES


def test_all_compile_for_a_gpu(tmp_path: Path) -> None:
    """The interpreter lets pass what the compiler refuses, such as a name that has two types."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.fast.gpu.compile_all"],
        cwd=Path(__file__).parents[3],
        env=environment | {"TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(CASES)
