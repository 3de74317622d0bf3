"""One request's way through the model: its cache, its recorder, and what its passes change in the model.

Several readings of one model may be under way; each holds the model for one pass at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from inspect import signature
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from molora import fast
from molora.edits import RoutingEdit
from molora.grid import RouterGrid
from molora.likeliest import Likeliest, likeliest
from molora.recorder import Recorder
from molora.text import TokenText
from molora.trace import RoutingTrace
from molora.wrap import wrapped_linears

PREFILL_CHUNK = 512
"""Tokens of one prefill pass: bounds the recorder's buffer, and lets a long prompt be stopped between passes."""
_ON_A_GPU = 4
"""Times as many: with fewer it waits for Python, which starts the same kernels for any number of tokens"""


class Reading:
    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        grid: RouterGrid,
        lock: Lock,
        capacity: int,
        seed: int = 0,
        edit: RoutingEdit | None = None,
        *,
        candidates: bool = True,
    ) -> None:
        """`capacity`: the most tokens that will be read; `lock`: held for each pass, so that hooks see only their own;
        `candidates`: whether the likeliest next tokens are recorded.

        Raises MoloraError if the edit names what the model does not have.
        """
        self._model, self._lock = model, lock
        self._device: torch.device = model.get_input_embeddings().weight.device
        step = fast.lean_step(model) if grid.uses_cache else None
        self._lean = None if step is None else fast.decode_of(step, self._device)
        self._find = likeliest if step is None else step.likeliest
        kept = fast.growing_cache(model.config.num_hidden_layers) if step else DynamicCache(config=model.config)
        self._cache = {cache_argument(model.__class__): kept} if grid.uses_cache else {}
        self._seen: list[int] = []  # kept only where there is no cache
        self.chunk = PREFILL_CHUNK * (_ON_A_GPU if self._device.type == "cuda" else 1)
        """Tokens of one prefill pass here"""
        self._recorder = Recorder(grid, min(self.chunk, capacity), capacity)
        self._likeliest = Likeliest(tokenizer, capacity) if candidates else None
        self._changes = _Changes(model, grid, seed, edit)
        self._plan = fast.Plan.of(edit, grid) if step else fast.Plan()
        self.text = TokenText(tokenizer)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Every pass is to be made inside. Hooks, which the lean pass needs none of, come off on every way out."""
        with nullcontext() if self._lean else self._recorder.attached():
            yield

    def prefill(self, ids: Sequence[int], phase: Sequence[int]) -> Iterator[Tensor]:
        """Reads a prompt by chunks; after each the logits [1, V] of what would come next."""
        for at in range(0, len(ids), self.chunk):
            part = slice(at, at + self.chunk)
            ends = at + self.chunk >= len(ids)  # only there the model speaks
            yield self.read(ids[part], self.text.pieces(ids[part]), phase[part], speaks=ends)

    def read(self, ids: Sequence[int], pieces: Sequence[str], phase: Sequence[int], *, speaks: bool = True) -> Tensor:
        """One pass over `ids` after all that was read before; logits [1, V] of the next token, and, where the model
        `speaks`, its likeliest tokens recorded.

        It takes the lean pass where the model fits it: the same, but for rounding.
        """
        return self.read_among(ids, pieces, phase, [len(ids) - 1] if speaks else [])

    def read_among(
        self,
        ids: Sequence[int],
        pieces: Sequence[str],
        phase: Sequence[int],
        scored: Sequence[int] = (),
        *,
        kept: int | Tensor = 1,
        among: fast.Among | None = None,
    ) -> Tensor:
        """The same for tokens that may stand `among` those of other texts; logits [R, V] after the `kept` ones, the
        last so many or those at int64 [R].

        scored: which of the `ids` the last of these logits come after; the likeliest tokens there are recorded.
        Inference mode and lock are held for the pass alone: whoever drives a generator may do so from another thread
        each time.
        """
        read = partial(self._lean_pass, self._lean) if self._lean else self._modules_pass
        with self._lock, torch.inference_mode():
            logits = read(ids, kept, among)
            found = self._find(logits[-len(scored) :]) if scored and self._likeliest else None  # [2, R, C]
        self._append(ids, pieces, phase, scored, found)
        return logits

    def _modules_pass(self, ids: Sequence[int], kept: int | Tensor, among: fast.Among | None) -> Tensor:
        if not self._cache:
            self._seen += ids
        batch = torch.tensor([ids if self._cache else self._seen], device=self._device)  # [1, N], or [1, all]
        given: dict[str, Any] = {"logits_to_keep": kept, "use_cache": bool(self._cache), **self._cache}
        if among is not None:
            dtype: torch.dtype = self._model.get_input_embeddings().weight.dtype
            hidden = torch.zeros_like(among.seen, dtype=dtype).masked_fill_(~among.seen, torch.finfo(dtype).min)
            given |= {"position_ids": among.positions[None], "attention_mask": hidden[None, None]}
        with self._changes.made(), self._recorder.reading(len(ids)):
            logits: Tensor = self._model(input_ids=batch, **given).logits[0]
        return logits if isinstance(kept, Tensor) else logits[-kept:]  # some models score all tokens in any case

    def _lean_pass(
        self, step: fast.Step | fast.GraphedStep, ids: Sequence[int], kept: int | Tensor, among: fast.Among | None
    ) -> Tensor:
        tokens = torch.tensor(ids, device=self._device)
        if len(ids) == 1 and among is None and self._filled.get_seq_length():
            logits, picked = step(tokens, self._filled, self._plan)
        else:
            logits, picked = step.many(tokens, self._filled, self._plan, kept, among)
        self._recorder.take(picked)
        return logits

    def _append(
        self,
        ids: Sequence[int],
        pieces: Sequence[str],
        phase: Sequence[int],
        scored: Sequence[int],
        found: Tensor | None,
    ) -> None:
        first, keep = len(self._recorder), None
        if found is not None and self._likeliest:
            keep = partial(self._likeliest.keep, [first + row for row in scored])
        self._recorder.append(ids, pieces, phase, found, keep)

    @property
    def _filled(self) -> DynamicCache:
        (cache,) = self._cache.values()
        return cache

    def trace(self, meta: dict[str, Any]) -> RoutingTrace:
        return self._recorder.trace(meta, self._likeliest)


@cache
def cache_argument(kind: Any) -> str:
    """Of a model's class: transformers renamed `past_key_values` to `cache` during version 5, and warns of the old
    name."""
    return "cache" if "cache" in signature(kind.forward).parameters else "past_key_values"


class _Changes:
    """What a pass sets in the model and takes back: randomness of drawing routers, and the masks of an edit."""

    def __init__(self, model: Any, grid: RouterGrid, seed: int, edit: RoutingEdit | None) -> None:
        places = [(layer, projection) for layer in grid.layer_indices for projection in grid.projections]
        drawing = [router for router in grid.routers if router.selection == "sampling"]
        sources = {device: torch.Generator(device) for device in {router.weight.device for router in drawing}}
        for source in sources.values():
            source.manual_seed(seed)
        self._generators = [(router, sources[router.weight.device]) for router in drawing]
        self._masks, self._off = [], []
        if edit is not None:
            grid.check(edit)
            self._masks = [
                (router, edit.masks(*place, grid.num_experts, router.weight.device))
                for router, place in zip(grid.routers, places, strict=True)
                if edit.touches(*place)
            ]
            self._off = [
                linear
                for name, linear in wrapped_linears(model).items()
                if linear.router is None and edit.switches_off("experts" if ".mlp." in name else "attention")
            ]

    @contextmanager
    def made(self) -> Iterator[None]:
        try:
            for router, source in self._generators:
                router.generator = source
            for router, masks in self._masks:
                router.masks = masks
            for linear in self._off:
                linear.active = False
            yield
        finally:
            for router, _ in self._generators:
                router.generator = None
            for router, _ in self._masks:
                router.masks = None
            for linear in self._off:
                linear.active = True
