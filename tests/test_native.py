"""Models with routers of their own: the trace against what the model itself reports, to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import molora
from molora.atlas.run import draw_routers
from molora.chat import encode_chat
from molora.engine import Engine
from molora.errors import MoloraError
from tests.native_models import FAMILIES, make_native

QUESTION = [{"role": "user", "content": "What are the symptoms of asthma?"}]
TEXT = "How is diabetes treated? With insulin, diet and exercise. 哮喘有哪些症状？"
SHARED = {"qwen2_moe": 1, "deepseek_v2": 2, "deepseek_v3": 2, "ernie4_5_moe": 3}
LAYERS = {"qwen2_moe": [0, 2], "deepseek_v2": [1, 2], "deepseek_v3": [1, 2], "ernie4_5_moe": [1, 2]}


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_native(tmp_path_factory.mktemp(family), family)


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    return molora.load(str(folder))


@pytest.fixture(scope="module")
def reference(folder: Path) -> Any:
    """The same weights, loaded by transformers alone."""
    return AutoModelForCausalLM.from_pretrained(folder).eval()


@contextmanager
def applied(model: Any) -> Iterator[list[list[tuple[np.ndarray, np.ndarray]]]]:
    """For each layer with experts, what they are given in each pass: (ids [N, K], weights [N, K])."""
    experts = [layer.mlp.experts for layer in model.model.layers if hasattr(layer.mlp, "experts")]
    seen: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in experts]

    def hear(passes: list[tuple[np.ndarray, np.ndarray]]) -> Any:
        def hook(_module: Any, args: tuple[torch.Tensor, ...], kwargs: dict[str, torch.Tensor]) -> None:
            ids, weights = [*args, *kwargs.values()][1:3]
            passes.append((ids.numpy().copy(), weights.float().numpy().copy()))

        return hook

    handles = [
        module.register_forward_pre_hook(hear(passes), with_kwargs=True)
        for module, passes in zip(experts, seen, strict=True)
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def assert_applied(trace: molora.RoutingTrace, seen: list[list[tuple[np.ndarray, np.ndarray]]]) -> None:
    """The trace holds exactly the given picks, each with its weight, strongest first."""
    for at, passes in enumerate(seen):
        ids, weights = (np.concatenate(parts) for parts in zip(*passes, strict=True))
        order = np.argsort(-weights, axis=-1, kind="stable")
        np.testing.assert_array_equal(trace.expert_ids[:, at, 0], np.take_along_axis(ids, order, -1))
        np.testing.assert_array_equal(trace.expert_weights[:, at, 0], np.take_along_axis(weights, order, -1))


def product(block: Any, x: torch.Tensor) -> torch.Tensor:
    """Router logits [N, E] of a block's input [1, N, I], as DeepSeek computes them."""
    gate = block.gate if hasattr(block, "gate") else block.router
    return torch.nn.functional.linear(x[0].float(), gate.weight.float())


def test_a_trace_is_what_the_model_reports(engine: Engine, reference: Any) -> None:
    trace = engine.trace_text(TEXT)
    ids = torch.tensor([trace.token_ids.tolist()])
    products: list[torch.Tensor] = []
    blocks = [layer.mlp for layer in reference.model.layers if hasattr(layer.mlp, "experts")]

    def hear(block: Any, args: tuple[torch.Tensor, ...]) -> None:
        products.append(product(block, args[0]))

    handles = [block.register_forward_pre_hook(hear) for block in blocks]
    with torch.inference_mode(), applied(reference) as seen:
        output = reference(ids, use_cache=True, output_router_logits=True)
    for handle in handles:
        handle.remove()
    assert_applied(trace, seen)
    assert len(seen) == trace.num_layers
    reported = getattr(output, "router_logits", products)  # DeepSeek reports none in earlier versions of transformers
    assert len(reported) == trace.num_layers
    for at, logits in enumerate(reported):
        np.testing.assert_array_equal(trace.router_logits[:, at, 0], logits.float().numpy())


def test_an_answer_is_transformers_greedy_one_and_its_trace_what_was_applied(engine: Engine, reference: Any) -> None:
    step = engine.answer(QUESTION, max_new_tokens=12)
    prompt = encode_chat(engine.tokenizer, QUESTION).token_ids
    with applied(reference) as seen:
        generated = reference.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)[0].tolist()
    assert step.trace.token_ids.tolist() == generated[:-1]
    assert_applied(step.trace, seen)


def test_conversations_answered_together_are_as_alone(engine: Engine) -> None:
    talks = [QUESTION, [{"role": "user", "content": "How is diabetes treated?"}]]
    for step, talk in zip(engine.answers(talks, max_new_tokens=5), talks, strict=True):
        alone = engine.answer(talk, max_new_tokens=5)
        assert step.trace.token_ids.tolist() == alone.trace.token_ids.tolist()
        np.testing.assert_array_equal(step.trace.expert_ids, alone.trace.expert_ids)
        np.testing.assert_allclose(step.trace.expert_weights, alone.trace.expert_weights, rtol=1e-3, atol=1e-5)


def test_what_is_said_of_the_model(engine: Engine, folder: Path, family: str) -> None:
    info, sizes = engine.info, FAMILIES[family]
    assert info.projections == ("mlp",)
    assert info.top_k == next(sizes[key] for key in sizes if key in ("num_experts_per_tok", "moe_k"))
    assert info.num_experts == next(sizes[key] for key in sizes if key in _NUM_EXPERTS)
    assert list(info.layers) == LAYERS.get(family, [0, 1])
    assert info.num_shared_experts == SHARED.get(family, 0)
    assert (info.model, info.base, info.adapter_sha256, info.is_demo) == (str(folder), str(folder), "", False)
    trace = engine.trace_text("asthma")
    assert trace.projections == info.projections
    assert trace.layer_indices.tolist() == list(info.layers)
    assert trace.expert_ids.shape[1:] == (len(info.layers), 1, info.top_k)
    assert trace.router_logits.shape[-1] == info.num_experts


_NUM_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


@pytest.mark.parametrize("family", ["olmoe", "qwen2_moe"])
@pytest.mark.parametrize("renormalised", [True, False])
def test_weights_are_the_models_own_renormalised_or_not(family: str, renormalised: bool, tmp_path: Path) -> None:
    trace = molora.load(str(make_native(tmp_path, family, norm_topk_prob=renormalised))).trace_text(TEXT)
    sums = trace.expert_weights.sum(axis=-1)
    probabilities = np.exp(trace.router_logits) / np.exp(trace.router_logits).sum(axis=-1, keepdims=True)
    if renormalised:
        np.testing.assert_allclose(sums, 1, rtol=1e-5)
    else:
        picked = np.take_along_axis(probabilities, trace.expert_ids.astype(np.int64), -1)
        np.testing.assert_allclose(trace.expert_weights, picked, rtol=1e-4)
        assert (sums < 0.999).any()


def test_deepseek_v2_without_groups(tmp_path: Path) -> None:
    folder = make_native(tmp_path, "deepseek_v2", topk_method="greedy", n_group=None, topk_group=None)
    engine = molora.load(str(folder))
    reference = AutoModelForCausalLM.from_pretrained(folder).eval()
    trace = engine.trace_text(TEXT)
    with torch.inference_mode(), applied(reference) as seen:
        reference(torch.tensor([trace.token_ids.tolist()]), use_cache=True)
    assert_applied(trace, seen)


def test_long_prompts_are_read_in_parts(tmp_path: Path) -> None:
    engine = molora.load(str(make_native(tmp_path, "mixtral", max_position_embeddings=2048)))
    trace = engine.trace_text("asthma and diabetes " * 150)
    assert len(trace) > 512
    assert np.isfinite(trace.router_logits).all()
    assert (trace.expert_ids >= 0).all()


def test_an_atlas_draws_no_native_routers_anew(engine: Engine) -> None:
    with pytest.raises(MoloraError, match="the routers of this model are its own"):
        draw_routers(engine.model, 0)


def test_a_dense_model_has_no_router(base: Path) -> None:
    with pytest.raises(
        MoloraError,
        match=r"\(Qwen2ForCausalLM\) has no router and is no MoLoRA checkpoint: there is no routing to show",
    ):
        molora.load(str(base))


def test_a_whole_model_takes_no_base(folder: Path, base: Path) -> None:
    with pytest.raises(MoloraError, match=r"is a whole model and needs no base. Leave --base out"):
        molora.load(str(folder), base=str(base))


def test_code_of_a_model_is_never_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Config"}}')
    (tmp_path / "theirs.py").write_text("raise SystemExit('ran')")
    with pytest.raises(MoloraError, match="cannot be read"):
        molora.load(str(tmp_path))


def test_4bit_leaves_the_routers_as_they_are(tmp_path: Path) -> None:
    engine = molora.load(str(make_native(tmp_path, "olmoe", hidden_size=64)), quantize="4bit")
    trace = engine.trace_text(TEXT)
    assert engine.info.precision == "NF4"
    assert np.isfinite(trace.router_logits).all()
    assert engine.model.model.layers[0].mlp.gate.weight.dtype.is_floating_point


def test_a_model_published_quantized_is_not_quantized_again(tmp_path: Path) -> None:
    folder = make_native(tmp_path, "gpt_oss", quantization_config={"quant_method": "mxfp4"})
    with pytest.raises(MoloraError, match=r"is published in mxfp4 already. Leave --quantize at auto or none"):
        molora.load(str(folder), quantize="8bit")


def test_a_router_that_is_passed_by_is_noticed(tmp_path: Path) -> None:
    engine = molora.load(str(make_native(tmp_path, "gpt_oss")))
    block = engine.model.model.layers[1].mlp
    block.forward = lambda hidden_states: (hidden_states, None)  # as a kernel that takes the block's place
    with pytest.raises(MoloraError, match="The router of layer 1 was passed by: a fused kernel"):
        engine.trace_text(TEXT)
