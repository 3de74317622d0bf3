"""Whether a model is as it was when it was last looked at. Each request asks, right after a pass that left nothing of
the model's objects in the CPU's caches: the fewer of them are looked at, the sooner it begins."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, repeat
from operator import contains, is_

from torch import Tensor, nn

from molora.layers import Router


class Watch:
    """A model's modules and weights: which they are, where each weight is, how often it has been written, and how
    routers pick.

    What may change without being seen: a weight written in place under `.data`, or made in inference mode, which torch
    does not count; a buffer, of which decoders have the frequencies of their rotary embedding alone; and what is given
    to a module that had no weights, or no parts, which none of its kind reads.
    """

    def __init__(self, model: nn.Module) -> None:
        """Holds all but the model itself, so that a weak dictionary may hold it."""
        whole = list(model.modules())
        self._modules, self._routers = whole[1:], [one for one in whole if isinstance(one, Router)]
        # the modules' own dictionaries, which they change but never replace
        self._having = [one._modules for one in whole if one._modules]
        self._owning = [one._parameters for one in whole if one._parameters]
        self._hooks = [hooks for one in whole for hooks in (one._forward_hooks, one._forward_pre_hooks)]
        self._own = [vars(one) for one in self._modules]
        self._parts, self._weights = self._now()
        self._counted = [one for one in self._weights if not one.is_inference()]  # what is written to is
        self._state = self._read()

    def unchanged(self) -> bool:
        """Whether all is as it was when this was made. Hooks do not count: see `hooked`."""
        parts, weights = self._now()
        return (
            parts == self._parts
            and len(weights) == len(self._weights)
            and all(map(is_, weights, self._weights))  # comparing tensors would read them
            and self._read() == self._state
        )

    def hooked(self, model: nn.Module) -> bool:
        """Whether somebody watches or changes what the modules say."""
        return any(self._hooks) or "forward" in vars(model) or any(map(contains, self._own, repeat("forward")))

    def _now(self) -> tuple[list[nn.Module | None], list[nn.Parameter]]:
        parts = list(chain.from_iterable(having.values() for having in self._having))
        return parts, [one for owning in self._owning for one in owning.values() if one is not None]

    def _read(self) -> tuple[Sequence[object], ...]:
        return (
            list(map(type, self._modules)),
            list(map(Tensor.data_ptr, self._weights)),
            [one._version for one in self._counted],
            [(one.top_k, one.selection) for one in self._routers],
        )
