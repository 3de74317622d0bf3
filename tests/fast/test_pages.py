"""Memory in large pages: arrays of their own, that lie where a line of the CPU's cache begins."""

from __future__ import annotations

import mmap
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from molora.fast.pages import Pages, placed, placed_tensor, room


def test_rooms_are_zeros_where_lines_begin() -> None:
    for shape, dtype in (((3, 5), np.float32), ((7,), np.uint16), ((2, 3, 4), np.int32)):
        made = room(shape, dtype)
        assert made.shape == shape
        assert made.dtype == np.dtype(dtype)
        assert made.flags.c_contiguous
        assert made.ctypes.data % 64 == 0
        assert not made.any()


def test_rooms_of_several_threads_do_not_overlap() -> None:
    def fill(number: int) -> np.ndarray:
        made = room((1 + number % 200,), np.int64)
        made[:] = number
        return made

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(fill, range(2000)))
    assert all((own == number).all() for number, own in enumerate(made))


def test_one_larger_than_a_mapping_has_its_own() -> None:
    own = Pages(shared=1 << 20)
    before, large, after = (own.room((size,), np.uint8) for size in (8, 1 << 21, 8))
    large[:] = 1
    assert large.sum() == 1 << 21
    assert not before.any()
    assert not after.any()


def test_a_mapping_goes_with_the_last_array_that_shares_it(monkeypatch: pytest.MonkeyPatch) -> None:
    mapped: list[weakref.ref[mmap.mmap]] = []

    class Noted(mmap.mmap):
        def __init__(self, *_args: object, **_kwargs: object) -> None:
            mapped.append(weakref.ref(self))

    monkeypatch.setattr(mmap, "mmap", Noted)
    own = Pages(shared=1 << 20)
    one, other = own.room((600_000,), np.uint8), own.room((400_000,), np.uint8)
    assert len(mapped) == 1
    own.room((100_000,), np.uint8)  # begins the next one
    del one
    assert mapped[0]() is not None
    other[:] = 3  # is still there
    del other
    assert mapped[0]() is None


def test_no_numbers_take_no_room() -> None:
    assert room((0, 4), np.uint16).shape == (0, 4)


def test_what_is_placed_is_the_same() -> None:
    rng = np.random.default_rng(0)
    array = rng.integers(0, 1 << 16, (5, 6, 7), np.uint16).transpose(1, 0, 2)  # not in one piece
    np.testing.assert_array_equal(placed(array), array)
    assert placed(array).flags.c_contiguous


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int32])
def test_tensors_too(dtype: torch.dtype) -> None:
    tensor = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).mul(9).to(dtype)
    made = placed_tensor(tensor.T)
    assert made.dtype == dtype
    assert made.is_contiguous()
    assert made.data_ptr() % 64 == 0
    assert torch.equal(made, tensor.T)


def test_other_devices_keep_what_they_have() -> None:
    tensor = torch.empty(2, device="meta")
    assert placed_tensor(tensor) is tensor


def _asked_for(address: int) -> bool:
    """Whether the system is asked for large pages where an address lies."""
    here = False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        name, *rest = line.split()
        if not name.endswith(":"):
            begin, end = (int(at, 16) for at in name.split("-"))
            here = begin <= address < end
        elif here and name == "VmFlags:":
            return "hg" in rest
    return False


def _wait_for_timers() -> None:
    for one in threading.enumerate():
        if isinstance(one, threading.Timer):
            one.join(10)


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="pages are as they are here")
def test_pages_become_large_and_keep_what_they_hold() -> None:
    made = Pages(later=0.1).room((3 << 20,), np.int32)
    made[:] = np.arange(3 << 20)
    _wait_for_timers()
    assert _asked_for(made.ctypes.data)
    assert (made == np.arange(3 << 20)).all()


def test_a_mapping_that_is_gone_by_then_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[object] = []
    monkeypatch.setattr(threading, "excepthook", failed.append)
    made = Pages(later=0.1).room((4,), np.int32)
    del made
    _wait_for_timers()
    assert not failed
