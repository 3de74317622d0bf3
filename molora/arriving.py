"""Numbers on their way from a device to the host, which goes on meanwhile and waits only when it looks at them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


class Arriving:
    """Tensors of any shapes, from a device in one copy; what lies on the host is there already, and not copied."""

    def __init__(self, parts: Sequence[Tensor]) -> None:
        """Starts the copy, behind the work that the device still has to do; as float32."""
        self._parts, self._copied = list(parts), None
        device = next((part.device for part in parts if part.device.type != "cpu"), None)
        if device is None:
            return
        flat = torch.cat([part.flatten().to(device, torch.float32) for part in parts])
        host = torch.empty_like(flat, device="cpu", pin_memory=flat.is_cuda)  # pinned, it is copied ten times as fast
        host.copy_(flat, non_blocking=flat.is_cuda)
        if flat.is_cuda:
            self._copied = torch.cuda.current_stream(device).record_event()
        pieces = host.split([part.numel() for part in parts])
        self._parts = [piece.view(part.shape) for piece, part in zip(pieces, parts, strict=True)]

    @property
    def here(self) -> bool:
        """Whether looking at them takes no waiting."""
        return self._copied is None or self._copied.query()

    def arrays(self) -> list[NDArray[Any]]:
        """One for each tensor, once they are all there."""
        if self._copied is not None:
            self._copied.synchronize()
        return [part.numpy() for part in self._parts]
