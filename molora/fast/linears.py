"""Linears that read the same input in compiled code: the base's product in 4 bits, and what their adapters add.

Axes: see `kernel`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from molora.edits import Masks
from molora.fast.adapter import Experts, PlainLora, numbers
from molora.fast.kernel import all_adapted, all_normed, mixed
from molora.fast.layout import NO_WORDS, experts_arrays, in_words, lora_arrays
from molora.fast.levels import WORTH, Levels
from molora.fast.picks import Picks
from molora.fast.plan import masks_array
from molora.fast.product import Packed
from molora.fast.site import Site
from molora.fast.threads import TOKENS, threads

_NO_NORM = np.empty(0, np.float32), 0.0
_NO_ADAPTER = (
    np.empty((0, 0, 0), np.uint16),
    np.empty((0, 0), np.float32),
    np.empty((0, 0, 0, 0), np.uint16),
    NO_WORDS,
    np.empty((0, 0, 0, 0), np.uint16),
    1.0,
)
"""See `kernel.layers.Adapter`"""


class Linears:
    """Linears that read the same input: the base's packed product, and what their adapters add."""

    def __init__(self, site: Site, packed: Packed) -> None:
        first = np.cumsum([0, *(linear.out_features for linear in site.linears)])
        self.routers, experts, _ = site.experts.sizes if site.experts else (0, 0, 0)
        self.unedited = unedited(self.routers, experts)
        start = np.zeros(first[-1], np.float32) if packed.bias is None else packed.bias.numpy()  # [P*O]
        self.arrays = packed.levels.words, first, start, _adapter(site)
        """As `kernel.layers.Linears`, without what many tokens read alone"""
        self._linears, self._adapted = site.linears, site.experts or site.lora
        lora = site.lora.arrays[:2] if site.lora else ()
        self.nbytes = packed.nbytes + sum(one.nbytes for one in (*lora, *filter(None, [site.experts])))
        """What one token reads"""

    @cached_property
    def arrays_of_many(self) -> Any:
        """The same with it. Where prompts are read by tiles it may never be asked for, and it takes as long to make as
        half of the rest."""
        words, first, bias, adapter = self.arrays
        whole = self._adapted is not None and _goes_whole(self._linears, self._adapted)
        return (words, first, bias, in_words(adapter)) if whole else self.arrays

    @property
    def parts(self) -> int:
        """How many threads it is worth."""
        return threads() if self.arrays[0].size >= WORTH else 1

    def many(
        self,
        x: Tensor,
        lora: bool,
        masks: Any,
        rows: Any,
        *,
        norm: nn.Module | None = None,
        gates: bool = False,
        onto: Tensor | None = None,
    ) -> Tensor:
        """x [N, I], or what a `norm` makes of it -> y [N, P*O], which may be added `onto` others in place, or where it
        `gates` silu of the first linear's times the second's, [N, O].

        rows [N, P, E+2K] take what routers decide.
        """
        first = self.arrays[1]
        y = torch.empty(len(x), first[1] if gates else first[-1]) if onto is None else onto
        how = _NO_NORM if norm is None else norm_arrays(norm), self.arrays_of_many, lora
        edit = self.unedited if masks is None else masks
        all_adapted(x.numpy(), *how, edit, rows, gates, y.numpy().reshape(-1), onto is not None, self.parts)
        return y


class CompiledExperts(Experts):
    """The same as `Experts`; of a prompt's tokens, too, each goes through the experts alone that are picked for it."""

    def add_many(self, x: Tensor, parts: Sequence[Tensor], masks: Masks | None, seen: Any) -> None:
        if not isinstance(seen, Picks):
            return super().add_many(x, parts, masks, seen)
        return self._mix(x, parts, masks, seen, gates=False)

    def gate_many(self, x: Tensor, gate: Tensor, up: Tensor, masks: Masks | None, seen: Any) -> Tensor:
        if not isinstance(seen, Picks):
            return super().gate_many(x, gate, up, masks, seen)
        self._mix(x, (gate, up), masks, seen, gates=True)
        return gate

    def _mix(self, x: Tensor, parts: Sequence[Tensor], masks: Masks | None, seen: Picks, *, gates: bool) -> None:
        places = np.array([part.data_ptr() for part in parts])
        edit = self._unedited if masks is None else masks_array(masks)
        like, rows = numbers(parts[0]), _rows(seen, len(x), len(parts))
        mixed(numbers(x), places, like, self._arrays, edit, rows, gates, threads())
        seen.next(len(parts))[:] = rows

    @cached_property
    def _arrays(self) -> Any:
        router, bias, a, b, scaling = self.arrays
        if self._r % 2:  # pairs of ranks need an even number
            b = self._b.float().numpy().reshape(b.shape)
        return router, bias, a, b, scaling

    @cached_property
    def _unedited(self) -> NDArray[np.float32]:
        return unedited(*self.sizes[:2])


class CompiledSite(Site):
    """The same as `Site`, to whose way it keeps where no `Picks` are given."""

    @cached_property
    def compiled(self) -> Linears | None:
        """None if the base is not packed."""
        packed = self.base.packed
        return None if packed is None else Linears(self, packed)

    def many(
        self, x: Tensor, masks: Masks | None, lora: bool, seen: Any, norm: nn.Module | None = None
    ) -> list[Tensor]:
        if (linears := self._taking(x, seen)) is None:
            return super().many(x, masks, lora, seen, norm)
        return [self._read(linears, x, masks, lora, seen, norm=norm).to(self._dtype)]

    def add_many(self, y: Tensor, x: Tensor, masks: Masks | None, lora: bool, seen: Any) -> None:
        in_place = self._dtype == y.dtype == torch.float32 and y.is_contiguous()  # as compiled code writes
        if in_place and (linears := self._taking(x, seen)) is not None:
            self._read(linears, x, masks, lora, seen, onto=y)
        else:
            super().add_many(y, x, masks, lora, seen)

    def gated(self, x: Tensor, masks: Masks | None, lora: bool, seen: Any, norm: nn.Module | None = None) -> Tensor:
        if (linears := self._taking(x, seen)) is None:
            return super().gated(x, masks, lora, seen, norm)
        return self._read(linears, x, masks, lora, seen, norm=norm, gates=True).to(self._dtype)

    def _normed(self, norm: Any, x: Tensor, seen: Any) -> Tensor:
        if x.dtype != torch.float32 or not isinstance(seen, Picks):
            return super()._normed(norm, x, seen)
        return normed(norm, x)

    def _taking(self, x: Tensor, seen: Any) -> Linears | None:
        """What takes x [N, I], if compiled code does: where products are made in bfloat16, but few tokens."""
        if not isinstance(seen, Picks) or not self._pack:
            return None
        return self.compiled if self._dtype == torch.float32 or len(x) <= Levels.few else None

    def _read(self, linears: Linears, x: Tensor, masks: Masks | None, lora: bool, seen: Picks, **how: Any) -> Tensor:
        edit = None if masks is None else masks_array(masks)
        rows = _rows(seen, len(x), linears.routers)
        y = linears.many(x.float().contiguous(), lora, edit, rows, **how)
        seen.next(linears.routers)[:] = rows
        return y


def _rows(seen: Picks, tokens: int, routers: int) -> NDArray[np.float32]:
    """What routers decide [N, P, E+2K], by itself: a part of what all decide is of one type for numba or of another,
    by how many there are, and for each all is compiled."""
    return np.empty((tokens, routers, seen.rows.shape[2]), np.float32)


def _adapter(site: Site) -> Any:
    """As `kernel.layers.Adapter`."""
    if site.experts is not None:
        return experts_arrays(site.experts)
    return _NO_ADAPTER if site.lora is None else lora_arrays(site.lora)


def _goes_whole(linears: Sequence[nn.Linear], adapter: Experts | PlainLora) -> bool:
    """Whether a prompt's way down may read the whole numbers that the base reads, whose rounding then costs no more
    through adapters than through the base: where they are bfloat16, and none is stronger than what it adapts."""
    if not adapter.narrow:
        return False
    base = torch.stack([linear.weight.detach().norm() for linear in linears])  # [P]
    return bool((adapter.strengths <= base[:, None]).all())


def normed(norm: Any, x: Tensor) -> Tensor:
    """RMSNorm of x, float32 [N, I]. Of one token torch's own functions take as long as half a layer."""
    y = torch.empty_like(x)
    all_normed(x.numpy(), *norm_arrays(norm), y.numpy(), threads() if len(x) >= TOKENS else 1)
    return y


def norm_arrays(norm: Any) -> tuple[NDArray[np.float32], float]:
    """RMSNorm's weight [I] and epsilon."""
    return norm.weight.detach().numpy(), norm.variance_epsilon


def unedited(routers: int, experts: int) -> NDArray[np.float32]:
    """Masks [P, 4, E] that change nothing."""
    masks = np.zeros((routers, 4, experts), np.float32)
    masks[:, [1, 3]] = 1  # all kept, at their own sharpness
    return masks
