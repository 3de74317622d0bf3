"""Prompts in bfloat16 through linears and their adapters against the same in float64, rounded where it is."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from molora.fast import kernel
from molora.fast.adapter import numbers
from molora.fast.kernel.lanes import LANES
from molora.fast.layout import NO_WORDS, tiled, way_up
from molora.fast.levels import Levels

PICKED = 2
SCALING = 1.5


class Case(NamedTuple):
    """Linears of so many results each, which read so many inputs, with experts of so many ranks; one is plain LoRA."""

    inner: int
    outs: tuple[int, ...]
    experts: int = 0
    rank: int = 0
    gates: bool = False
    onto: bool = False
    lora: bool = True
    normed: bool = True
    narrow: bool = True


CASES = {
    "plain lora of three": Case(64, (64, 32, 32), 1, 8),
    "plain lora switched off": Case(64, (64, 32, 32), 1, 8, lora=False),
    "plain lora of an odd rank": Case(96, (48,), 1, 3, onto=True, normed=False),
    "experts of gate and up": Case(96, (48, 48), 4, 4, gates=True),
    "experts of odd ranks": Case(96, (48,), 3, 5, onto=True, normed=False),
    "more experts than lanes": Case(640, (32, 32), LANES + 1, 2, gates=True),
    "more ranks than inputs": Case(64, (32, 48), 4, 160, onto=True, normed=False),
    "adapters in float32": Case(96, (48, 48), 4, 4, gates=True, narrow=False),
    "the base alone": Case(672, (48,), onto=True),
}


class Linears:
    """Random ones, as compiled code takes them and as float64."""

    def __init__(self, case: Case) -> None:
        self.case, total = case, sum(case.outs)
        levels = torch.randint(0, 16, (total, case.inner // 32, 32))
        scales = (torch.rand(total, case.inner // 32) * 0.01 + 0.001).bfloat16().float()
        centres = (torch.randn(total, case.inner // 32) * 0.01).bfloat16().float()
        weight = ((levels - 8) * scales[..., None] + centres[..., None]).flatten(1)
        self.weight, self.bias = weight.bfloat16().double(), torch.randn(total)
        self.router = self._some(len(case.outs), case.experts, case.inner)
        self.router_bias = torch.randn(len(case.outs), case.experts)
        self.a = self._some(len(case.outs), case.experts, case.rank, case.inner)
        self.b = [self._some(case.experts, case.rank, out) for out in case.outs]
        self.first = np.cumsum([0, *case.outs])
        self.words = Levels.pack(levels, scales, centres).words

    def _some(self, *shape: int) -> Tensor:
        made = torch.randn(*shape) * 0.05
        return made.bfloat16() if self.case.narrow else made

    @property
    def routed(self) -> bool:
        return self.case.experts > 1

    @property
    def adapter(self) -> Any:
        if not self.case.experts:
            none = np.empty((0, 0, 0, 0), np.uint16)
            return np.empty((0, 0, 0), np.uint16), np.empty((0, 0), np.float32), none, NO_WORDS, none, 1.0
        few = slice(None) if self.routed else slice(0)
        up = way_up([numbers(one) for one in self.b])
        scaling = SCALING if self.routed else 1.0
        return numbers(self.router[few]), self.router_bias[few].numpy(), numbers(self.a), NO_WORDS, up, scaling

    def read(self, x: Tensor, masks: Tensor, parts: int, start: Tensor) -> tuple[Tensor, Tensor]:
        """y and rows [N, P, E+2K]."""
        case, adapter = self.case, self.adapter
        norm = torch.full((case.inner,), 0.5).numpy() if case.normed else np.empty(0, np.float32), 1e-5
        given = self.words, self.first, self.bias.numpy(), adapter
        rows = np.zeros((len(x), len(masks), case.experts + 2 * PICKED), np.float32)
        y = start.clone()
        again, edit = tiled(adapter, self.first), masks.numpy()
        flat, after = y.numpy().reshape(-1), (0, 1000)  # what is not there is asked for, and not read
        how = case.gates, flat, case.onto, after, parts
        kernel.all_tiled(x.numpy(), norm, given, again, case.lora, edit, rows, *how)
        return y, torch.from_numpy(rows)

    def plain(self, x: Tensor, rows: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """The same with the picks and weights of rows, and the routers' logits [N, P, E]."""
        case, exact = self.case, x.double()
        if case.normed:
            exact = F.rms_norm(exact, (case.inner,), torch.full((case.inner,), 0.5).double(), 1e-5)
        read, logits = exact.float().bfloat16().double(), []
        each = list((F.linear(read, self.weight) + self.bias).split(case.outs, dim=-1))
        for p in range(len(case.outs) if case.experts and (case.lora or self.routed) else 0):
            gates = torch.ones(len(x), 1).double()
            if self.routed:
                logits.append(F.linear(exact, self.router[p].double(), self.router_bias[p].double()))
                ids, weights = rows[:, p, case.experts :].double().split(PICKED, dim=-1)
                kept = F.one_hot(ids.long().clamp_min(0), case.experts) * (weights * (ids >= 0))[..., None]
                gates = kept.sum(1) * SCALING
            h = torch.einsum("ni,eri->ner", read, self.a[p].bfloat16().double()) * gates[..., None]
            h = h.float().bfloat16().double()
            each[p] = each[p] + torch.einsum("ner,ero->no", h, self.b[p].bfloat16().double())
        y = F.silu(each[0]) * each[1] if case.gates else torch.cat(each, dim=-1)
        return y + start if case.onto else y, torch.stack(logits, 1) if logits else torch.empty(0)


def unedited(made: Linears) -> Tensor:
    masks = torch.zeros(len(made.case.outs) if made.routed else 0, 4, made.case.experts)
    masks[:, [1, 3]] = 1
    return masks


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("tokens", [1, 33, 70, 300])
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_plain_way(name: str, tokens: int, parts: int) -> None:
    torch.manual_seed(tokens)
    made = Linears(CASES[name])
    x = torch.randn(tokens, made.case.inner)
    start = torch.randn(tokens, made.case.outs[0] if made.case.gates else sum(made.case.outs))
    y, rows = made.read(x, unedited(made), parts, start)
    expected, logits = made.plain(x, rows, start)
    torch.testing.assert_close(y.double(), expected, rtol=4e-3, atol=4e-3 * float(expected.std()))
    assert (y - expected).abs().mean() < 3e-4 * expected.std()
    if made.routed:  # what routers say is not rounded as products are
        count = made.case.experts
        torch.testing.assert_close(rows[..., :count].double(), logits, rtol=1e-4, atol=2e-4)
        best, ids = logits.topk(PICKED)
        assert (rows[..., count : count + PICKED] == ids).double().mean() > 0.99
        weights = rows[..., count + PICKED :].double()
        assert (weights - best.softmax(-1)).abs().mean() < 1e-3


def test_what_is_switched_off_adds_nothing_even_where_it_overflows() -> None:
    torch.manual_seed(0)
    made = Linears(CASES["experts of gate and up"])
    made.a[:, 2] = torch.inf
    masks = unedited(made)
    masks[:, 1, 2] = 0  # where it is picked, it has no weight
    x = torch.randn(50, made.case.inner)
    y, rows = made.read(x, masks, 2, torch.empty(50, 48))
    picked = rows[..., 4 : 4 + PICKED]
    assert (picked == -1).any()
    assert not (picked == 2).any()
    made.a[:, 2] = 0
    torch.testing.assert_close(y.double(), made.plain(x, rows, torch.empty(0))[0], rtol=4e-3, atol=4e-3)


def test_many_tokens_are_read_as_few_are() -> None:
    """By threads that keep to their own tokens, or to their own results."""
    torch.manual_seed(0)
    made = Linears(CASES["experts of gate and up"])
    x, start = torch.randn(160, made.case.inner), torch.empty(160, 48)
    many, _ = made.read(x, unedited(made), 2, start)
    few, _ = made.read(x[:64], unedited(made), 2, start[:64])
    torch.testing.assert_close(many[:64], few, rtol=1e-6, atol=1e-6)
