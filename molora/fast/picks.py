"""What the routers of one pass decide, in one array that code outside torch's own functions writes.

Axes: N tokens, L layers, P projections, E experts, K picked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from molora.fast.adapter import Picked


class Picks:
    """Those of N tokens, in the routers' order."""

    def __init__(
        self, sizes: Sequence[tuple[int, int, int]], tokens: int, empty: Callable[[tuple[int, ...]], Any]
    ) -> None:
        """`sizes`: P, E and K of what shares an input; `empty`: makes the array, numpy's or torch's, of float32. It is
        one: small ones that last would lie between the big ones that come and go, and leave holes too narrow for the
        next."""
        _, self._experts, self._top_k = sizes[0] if sizes else (0, 0, 0)
        routers = sum(count for count, *_ in sizes)
        self.rows = empty((tokens, routers, self._experts + 2 * self._top_k))
        """[N, L*P, E+2K]"""
        self._at = 0

    def next(self, routers: int) -> Any:
        """Where the next ones write, [N, P, E+2K]."""
        self._at += routers
        return self.rows[:, self._at - routers : self._at]

    def all(self) -> list[Picked]:
        """[N, L*P, ...]; empty without routers."""
        return self._parts(self.rows)

    def of_one(self) -> list[Picked]:
        """[L*P, ...] of a single token."""
        return self._parts(self.rows[0])

    def _parts(self, rows: Any) -> list[Picked]:
        widths = [self._experts, self._top_k, self._top_k]
        if not rows.shape[-2]:
            return []
        whole = rows if isinstance(rows, Tensor) else torch.from_numpy(rows)
        return [Picked(*whole.split_with_sizes(widths, -1))]  # for a token `as_tensor` and `split` take twice as long
