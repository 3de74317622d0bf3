"""The mixture against a plain loop over experts in float64, and what only this layer promises."""

from __future__ import annotations

import math
import random
from typing import Any, NamedTuple

import bitsandbytes as bnb
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from molora.config import ExpertSelection, LoraConfig
from molora.layers import MoloraLinear, Routing

IN, OUT = 24, 17


class Weights(NamedTuple):
    """The adapter's weights in float64, one slice an expert."""

    a: Tensor
    """[E, R, I]"""
    b: Tensor
    """[E, O, R]"""
    router: Tensor | None
    """[E, I]"""
    bias: Tensor | None
    """[E]"""


def weights_of(layer: MoloraLinear) -> Weights:
    a = layer.lora_A.detach().double().reshape(layer.num_experts, layer.r, -1)
    b = torch.stack(layer.lora_B.detach().double().split(layer.r, dim=1))
    if layer.router is None:
        return Weights(a, b, None, None)
    return Weights(a, b, layer.router.weight.detach().double(), layer.router.bias.detach().double())


def by_loop(x: Tensor, w: Weights, top_k: int, scaling: float, picks: Tensor | None = None) -> Tensor:
    """What the experts add to each token of x [*, I], one token and one expert at a time, in float64: [*, O].

    `picks` [*, K] stands in for the top-k, where experts are drawn.
    """
    rows = []
    for t, token in enumerate(x.double().reshape(-1, x.shape[-1])):
        if w.router is None or w.bias is None:
            rows.append(scaling * w.b[0] @ (w.a[0] @ token))
            continue
        logits = w.router @ token + w.bias
        best = picks.reshape(-1, top_k)[t].tolist() if picks is not None else logits.argsort(descending=True)[:top_k]
        total = sum(logits[e].exp() for e in best)
        rows.append(sum(logits[e].exp() / total * scaling * w.b[e] @ (w.a[e] @ token) for e in best))
    return torch.stack(rows).reshape(*x.shape[:-1], -1) if rows else x.new_zeros(*x.shape[:-1], w.b.shape[1]).double()


def make(
    num_experts: int,
    top_k: int,
    lora: LoraConfig | None = None,
    selection: ExpertSelection = "top_k",
    base: nn.Linear | None = None,
    dtype: torch.dtype | None = None,
) -> MoloraLinear:
    """A layer whose every weight is random, as after training."""
    base = base or nn.Linear(IN, OUT, dtype=dtype)
    layer = MoloraLinear(base, num_experts, top_k, lora or LoraConfig(r=4), selection, dtype=dtype).eval()
    nn.init.normal_(layer.lora_B)
    if layer.router is not None:
        nn.init.normal_(layer.router.weight)
        nn.init.normal_(layer.router.bias)
    return layer


def routing_of(layer: MoloraLinear, x: Tensor) -> tuple[Tensor, Routing]:
    """The output, and what the router decided in the same pass."""
    assert layer.router is not None
    seen: list[Routing] = []
    handle = layer.router.register_forward_hook(lambda module, args, output: seen.append(output))
    try:
        y = layer(x)
    finally:
        handle.remove()
    (routing,) = seen
    return y, routing


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("seed", range(40))
def test_equals_the_loop_over_experts(seed: int) -> None:
    """Random options: E 1 to 16, k 1 to E, rank, alpha, rank-stabilised or not, bias or not, both selections."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    num_experts = rng.choice([1, 2, 3, 4, 8, 16])
    top_k = rng.randint(1, num_experts)
    lora = LoraConfig(r=rng.choice([1, 2, 5, 8]), alpha=rng.choice([1.0, 7.5, 16.0]), use_rslora=rng.random() < 0.5)
    selection: ExpertSelection = rng.choice(["top_k", "sampling"])
    base = nn.Linear(IN, OUT, bias=rng.random() < 0.5)
    layer = make(num_experts, top_k, lora, selection, base)
    x = torch.randn(*rng.choice([(7,), (2, 5), (1, 1), (2, 3, 2)]), IN)
    scaling = lora.alpha / (math.sqrt(lora.r) if lora.use_rslora else lora.r)
    picks = None
    if num_experts > 1:
        y, routing = routing_of(layer, x)
        picks = routing.expert_ids if selection == "sampling" else None
        assert routing.expert_ids.shape == (*x.shape[:-1], top_k)
    else:
        y = layer(x)
    expected = base(x).double() + by_loop(x, weights_of(layer), top_k, scaling, picks)
    torch.testing.assert_close(y.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_experts", range(1, 17))
def test_every_number_of_experts_and_picks(num_experts: int) -> None:
    x = torch.randn(2, IN)
    for top_k in range(1, num_experts + 1):
        layer = make(num_experts, top_k)
        expected = layer.base_layer(x).double() + by_loop(x, weights_of(layer), top_k, 4.0)
        torch.testing.assert_close(layer(x).double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (2, 3, 4), (0,), (2, 0)])
@pytest.mark.parametrize("num_experts", [1, 4])
def test_any_leading_shape(shape: tuple[int, ...], num_experts: int) -> None:
    layer = make(num_experts, 1)
    x = torch.randn(*shape, IN)
    expected = layer.base_layer(x).double() + by_loop(x, weights_of(layer), 1, 4.0)
    y = layer(x)
    assert y.shape == (*shape, OUT)
    torch.testing.assert_close(y.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_experts", [0, 1])
def test_one_expert_is_plain_lora_without_a_router(num_experts: int) -> None:
    layer = make(num_experts, 1, LoraConfig(r=4, alpha=8.0))
    x = torch.randn(5, IN)
    assert layer.router is None
    assert (layer.lora_A.shape, layer.lora_B.shape) == ((4, IN), (OUT, 4))
    assert {name for name, _ in layer.named_parameters()} == {
        "lora_A",
        "lora_B",
        "base_layer.weight",
        "base_layer.bias",
    }
    torch.testing.assert_close(layer(x), layer.base_layer(x) + 2.0 * x @ layer.lora_A.T @ layer.lora_B.T)


@pytest.mark.parametrize("num_experts", [1, 8])
def test_untrained_layer_answers_as_its_base(num_experts: int) -> None:
    base = nn.Linear(IN, OUT)
    layer = MoloraLinear(base, num_experts, 2, LoraConfig())
    x = torch.randn(5, IN)
    assert torch.equal(layer(x), base(x))
    assert layer.lora_A.count_nonzero() == layer.lora_A.numel()


def test_router_weighs_in_float32_what_bfloat16_would_tie() -> None:
    """Logits of about 100 that differ by 0.01: in bf16 they are one number, or swap."""
    layer = make(4, 1, dtype=torch.bfloat16)
    assert layer.router is not None
    assert layer.lora_A.dtype == layer.lora_B.dtype == torch.bfloat16
    assert layer.router.weight.dtype == layer.router.bias.dtype == torch.float32
    x = torch.zeros(4, IN, dtype=torch.bfloat16)
    x[:, 0] = 1
    with torch.no_grad():
        layer.router.weight.zero_()
        for best in range(4):
            layer.router.bias.fill_(100.0)
            layer.router.bias[best] = 100.01
            _, routing = routing_of(layer, x)
            assert routing.expert_ids.tolist() == [[best]] * 4
            assert routing.logits.dtype == routing.weights.dtype == torch.float32


def test_bfloat16_layer_is_near_the_loop() -> None:
    layer = make(8, 2, dtype=torch.bfloat16)
    x = torch.randn(6, IN, dtype=torch.bfloat16)
    y, routing = routing_of(layer, x)
    w = weights_of(layer)
    assert w.router is not None
    torch.testing.assert_close(routing.logits.double(), F.linear(x.double(), w.router, w.bias), rtol=1e-5, atol=1e-5)
    assert y.dtype == torch.bfloat16
    expected = layer.base_layer(x).double() + by_loop(x, w, 2, 4.0)
    torch.testing.assert_close(y.double(), expected, rtol=3e-2, atol=0.3)


def test_adapter_and_base_may_differ_in_dtype() -> None:
    base = nn.Linear(IN, OUT, dtype=torch.bfloat16)
    layer = make(4, 2, base=base, dtype=torch.float32)
    x = torch.randn(6, IN, dtype=torch.bfloat16)
    y = layer(x)
    assert y.dtype == torch.bfloat16
    added = by_loop(x, weights_of(layer), 2, 4.0)
    torch.testing.assert_close(y.double(), base(x).double() + added, rtol=2e-2, atol=0.1)


def test_overflow_of_an_expert_that_is_not_picked_stays_out() -> None:
    """0 * inf is nan: in fp16 an expert may overflow where nobody asked it."""
    layer = make(4, 2, dtype=torch.float16)
    assert layer.router is not None
    with torch.no_grad():
        layer.lora_A[:4] = 6e4  # expert 0
        layer.router.bias[0] = -1e4
    x = torch.rand(5, IN, dtype=torch.float16) + 1
    assert F.linear(x, layer.lora_A)[:, :4].isinf().all()
    y, routing = routing_of(layer, x)
    assert (routing.expert_ids != 0).all()
    assert y.isfinite().all()
    expected = layer.base_layer(x).double() + by_loop(x, weights_of(layer), 2, 4.0)
    torch.testing.assert_close(y.double(), expected, rtol=1e-2, atol=5e-2)


def test_dropout_works_in_training_only_and_on_the_experts_input_only() -> None:
    layer = make(4, 2, LoraConfig(r=4, dropout=0.5))
    x = torch.randn(64, IN)
    y, routing = routing_of(layer, x)
    assert torch.equal(y, layer(x))
    layer.train()
    dropped, routing_in_training = routing_of(layer, x)
    assert not torch.allclose(dropped, layer(x))
    assert torch.equal(routing.logits, routing_in_training.logits), "the router reads the whole input"
    nn.init.zeros_(layer.lora_B)
    assert torch.equal(layer(x), layer.base_layer(x)), "and so does the base"


def test_gradients_equal_the_loops_and_spare_the_base() -> None:
    base = nn.Linear(IN, OUT)
    layer = make(4, 2, LoraConfig(r=3, alpha=6.0), base=base)
    assert layer.router is not None
    x = torch.randn(9, IN, requires_grad=True)
    target = torch.randn(9, OUT)
    (layer(x) * target).sum().backward()

    w = Weights(*(value.requires_grad_() for value in weights_of(layer) if value is not None))
    at = x.detach().double().requires_grad_()
    y = F.linear(at, base.weight.double(), base.bias.double())
    ((y + by_loop(at, w, 2, 2.0)) * target).sum().backward()

    assert w.router is not None
    assert w.bias is not None
    pairs = [
        (layer.lora_A.grad, w.a.grad.flatten(0, 1) if w.a.grad is not None else None),
        (layer.lora_B.grad, torch.cat(list(w.b.grad), dim=1) if w.b.grad is not None else None),
        (layer.router.weight.grad, w.router.grad),
        (layer.router.bias.grad, w.bias.grad),
        (x.grad, at.grad),
    ]
    for ours, expected in pairs:
        assert ours is not None
        assert expected is not None
        torch.testing.assert_close(ours.double(), expected, rtol=1e-3, atol=1e-3)
    assert base.weight.grad is base.bias.grad is None
    trained = {name for name, parameter in layer.named_parameters() if parameter.requires_grad}
    assert trained == {"lora_A", "lora_B", "router.weight", "router.bias"}


def test_base_is_wrapped_and_never_touched() -> None:
    base = nn.Linear(IN, OUT)
    before = {name: value.clone() for name, value in base.state_dict().items()}
    layer = make(4, 2, base=base)
    layer(torch.randn(3, IN)).sum().backward()
    assert layer.base_layer is base
    assert type(base) is nn.Linear
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())


def quantized(kind: str) -> Any:
    """A bitsandbytes linear of 64 by 64; loading it onto a device packs its weights."""
    linear = (
        bnb.nn.Linear4bit(64, 64, compute_dtype=torch.float32, quant_type="nf4")
        if kind == "nf4"
        else bnb.nn.Linear8bitLt(64, 64, has_fp16_weights=False)
    )
    linear.load_state_dict(nn.Linear(64, 64).state_dict())
    return linear.to("cpu")


@pytest.mark.parametrize("kind", ["nf4", "int8"])
@pytest.mark.parametrize("num_experts", [1, 8])
def test_quantized_base_on_the_cpu(kind: str, num_experts: int) -> None:
    base = quantized(kind)
    packed = base.weight.data.clone()
    layer = make(num_experts, min(2, num_experts), LoraConfig(r=4), base=base)
    assert (layer.in_features, layer.out_features) == (64, 64)
    x = torch.randn(2, 5, 64, requires_grad=True)
    y = layer(x)
    expected = base(x).double() + by_loop(x, weights_of(layer), min(2, num_experts), 4.0)
    torch.testing.assert_close(y.double(), expected, rtol=1e-3, atol=1e-3)
    y.sum().backward()
    assert base.weight.dtype in {torch.uint8, torch.int8}
    assert torch.equal(base.weight.data, packed)
    assert not base.weight.requires_grad
    assert layer.lora_A.grad is not None
    assert layer.base_layer is base
