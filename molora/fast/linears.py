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
from molora.fast.adapter import Experts, numbers
from molora.fast.kernel import adapted, all_adapted, all_normed, mixed
from molora.fast.layout import experts_for_many, lora_for_many
from molora.fast.levels import WORTH, CompiledLevels, TorchLevels, fastest
from molora.fast.picks import Picks
from molora.fast.plan import masks_array
from molora.fast.product import Packed
from molora.fast.site import Site
from molora.fast.threads import TOKENS, threads

_NO_WORDS = np.empty((0, 0), np.int32)
_NO_NORM = np.empty(0, np.float32), 0.0
_NO_ROWS = np.empty((0, 0), np.float32)
_NO_EXPERTS = (
    np.empty((0, 0, 0), np.uint16),
    np.empty((0, 0), np.float32),
    np.empty((0, 0, 0, 0), np.uint16),
    np.empty((0, 0, 0, 0), np.uint16),
    1.0,
)
"""Routers, their bias, A, B and scaling; see `kernel.token.adapted`"""
_NONE_FOR_MANY = (
    *_NO_EXPERTS[:2],
    np.empty((0, 0, 0, 0), np.uint16),
    np.empty((0, 0, 0), np.uint16),
    1.0,
)
"""See `kernel.panels.Adapter`"""


class Input:
    """What linears read, [1, I]: float32 for adapters, bfloat16 for packed products."""

    def __init__(self, floats: Tensor, halves: Tensor) -> None:
        self.floats, self.halves = floats, halves
        self.at, self.halves_at = floats.data_ptr(), halves.data_ptr()

    @classmethod
    def room(cls, size: int) -> Input:
        return cls(torch.empty(1, size), torch.empty(1, size, dtype=torch.bfloat16))


class Linears:
    """Linears that read the same input: the base's packed product, and what their adapters add."""

    def __init__(self, site: Site, packed: Packed) -> None:
        self.width, size = site.linears[0].in_features, sum(linear.out_features for linear in site.linears)
        levels = packed.levels
        self._words = levels.words if isinstance(levels, CompiledLevels) else _NO_WORDS
        self._halves = levels.halves if isinstance(levels, TorchLevels) else None
        self._bias = np.zeros(size, np.float32) if packed.bias is None else packed.bias.numpy()  # [P*O]
        no_lora = np.empty((0, self.width), np.uint16), np.empty((0, size), np.uint16), np.zeros(1, np.int64)
        self._lora = site.lora.arrays if site.lora else no_lora
        a, b, _ = self._lora
        self._no_lora = a[:0], b[:0], no_lora[2]  # of the same types, so that nothing is compiled for an edit
        self.routers, *self.sizes = site.experts.sizes if site.experts else (0, 0, 0)
        self._experts = site.experts.arrays if site.experts else _NO_EXPERTS
        self._all = _for_many(site)
        self._none = *(part[:0] for part in self._all[:-1]), self._all[-1]
        self._unedited = unedited(self.routers, self.sizes[0])
        self._packed_bytes = packed.nbytes
        self._first = np.cumsum([0, *(linear.out_features for linear in site.linears)])

    @property
    def _parts(self) -> int:
        """torch shares its own products between threads; what is left to do besides is not worth waking one."""
        return threads() if self._words.size >= WORTH else 1

    @property
    def nbytes(self) -> int:
        """What one token reads: of experts those that are picked."""
        router, bias, a, b, _ = self._experts
        experts = (a.nbytes + b.nbytes) * self.sizes[1] // self.sizes[0] if self.routers else 0
        return self._packed_bytes + sum(one.nbytes for one in self._lora[:2]) + router.nbytes + bias.nbytes + experts

    def __call__(
        self, x: Input, y_at: int, onto: bool, lora: bool, masks: Any = None, rows: NDArray[np.float32] = _NO_ROWS
    ) -> None:
        """x -> y [P*O] at its address, or added `onto` what is there; rows [P, E+2K] take what routers decide."""
        base = self._halves and self._halves(x.halves)  # [1, P*O]
        adapter = self._lora if lora else self._no_lora
        edit = self._unedited if masks is None else masks
        adapted(
            x.at,
            self._words,
            0 if base is None else base.data_ptr(),
            y_at,
            onto,
            self._bias,
            adapter,
            self._experts,
            edit,
            rows,
            self._parts,
        )

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
        y = torch.empty(len(x), self._first[1] if gates else self._bias.size) if onto is None else onto
        all_adapted(
            x.numpy(),
            _NO_NORM if norm is None else norm_arrays(norm),
            self._words,
            y.data_ptr(),
            self._first,
            self._bias,
            self._all if lora or self.routers else self._none,
            self._unedited if masks is None else masks,
            rows,
            gates,
            onto is not None,
            self._parts,
        )
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
        like, rows = numbers(parts[0]), seen.next(len(parts))
        mixed(numbers(x), places, like, self._arrays, edit, rows, gates, threads())

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
    """The same as `Site`, to whose way it keeps where no `Picks` are given, and where torch's kernel multiplies."""

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
        y = torch.empty_like(x)
        all_normed(x.numpy(), *norm_arrays(norm), y.numpy(), threads() if len(x) >= TOKENS else 1)
        return y

    def _taking(self, x: Tensor, seen: Any) -> Linears | None:
        """What takes x [N, I], if compiled code does: where products are made in bfloat16, but few tokens."""
        if not isinstance(seen, Picks) or not self._pack or fastest() is not CompiledLevels:
            return None
        return self.compiled if self._dtype == torch.float32 or len(x) <= CompiledLevels.few else None

    def _read(self, linears: Linears, x: Tensor, masks: Masks | None, lora: bool, seen: Picks, **how: Any) -> Tensor:
        edit = None if masks is None else masks_array(masks)
        return linears.many(x.float().contiguous(), lora, edit, seen.next(linears.routers), **how)


def _for_many(site: Site) -> Any:
    """Its adapters, as `kernel.panels.Adapter`."""
    if site.experts is not None:
        return experts_for_many(site.experts)
    return _NONE_FOR_MANY if site.lora is None else lora_for_many(site.lora)


def norm_arrays(norm: Any) -> tuple[NDArray[np.float32], float]:
    """RMSNorm's weight [I] and epsilon."""
    return norm.weight.detach().numpy(), norm.variance_epsilon


def unedited(routers: int, experts: int) -> NDArray[np.float32]:
    """Masks [P, 4, E] that change nothing."""
    masks = np.zeros((routers, 4, experts), np.float32)
    masks[:, [1, 3]] = 1  # all kept, at their own sharpness
    return masks
