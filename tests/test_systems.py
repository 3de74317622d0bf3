from __future__ import annotations

from pathlib import Path

import pytest

from molora.config import ALL_PROJECTIONS, ATTENTION_PROJECTIONS, LoraConfig, MoloraConfig
from molora.errors import MoloraError
from molora.loading import skeleton
from molora.systems import EXPERTS, RANK, SYSTEMS, TOP_K, open_system, plain_rank, training_options
from molora.train import parse
from molora.trainer import trained
from molora.wrap import wrap


def size(base: Path, experts: int, rank: int, top_k: int = 2) -> int:
    lora = LoraConfig(rank)
    targets = ATTENTION_PROJECTIONS if experts > 1 else ALL_PROJECTIONS
    config = MoloraConfig(experts, top_k, experts=lora, attention=lora, target_modules=targets)
    model = wrap(skeleton(str(base)), config)
    return sum(p.numel() for p in trained(model).values())


def test_plain_loras_are_as_large_as_the_mixture_or_as_what_works_on_a_token(base: Path) -> None:
    total, active = (plain_rank(skeleton(str(base)), active) for active in (False, True))
    step = size(base, 1, 1)
    assert abs(size(base, 1, total) - size(base, EXPERTS, RANK)) <= step / 2
    routers = 2 * size(base, EXPERTS, RANK // 2) - size(base, EXPERTS, RANK)  # what does not grow with the rank
    one = (size(base, EXPERTS, RANK) - routers - size(base, 1, RANK)) / (EXPERTS - 1)  # an expert on every projection
    assert abs(size(base, 1, active) - (size(base, 1, RANK) + (TOP_K - 1) * one)) <= step / 2


def test_every_trained_system_has_options_that_training_reads(base: Path) -> None:
    for spec in SYSTEMS.values():
        assert spec.says
        if spec.trained_as is not None:
            args = parse(["--out", "x", *training_options(spec.trained_as, str(base))])
            assert args.alpha == 2 * args.rank
            assert (args.experts == EXPERTS) == (spec.size == "mixture")
    assert {spec.trained_as for spec in SYSTEMS.values()} <= {None, *SYSTEMS}


def test_the_base_and_the_even_mixture_open(base: Path, checkpoint: Path) -> None:
    plain = open_system("base", Path("nowhere"), str(base))
    with plain.on("pubmedqa"):
        assert "lora_A" not in dict(plain.model.named_parameters())
    even = open_system("molora_uniform", checkpoint, str(base))
    router = even.model.get_submodule("model.layers.0.mlp.gate_proj").router
    assert router.top_k == router.num_experts
    with pytest.raises(MoloraError, match="There is no folder"):
        open_system("molora", Path("nowhere"), str(base))
