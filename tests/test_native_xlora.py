"""X-LoRA of peft: loaded, recorded and edited, against what peft itself computes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, XLoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import molora
from molora.chat import encode_chat
from molora.edits import RoutingEdit
from molora.engine import Engine
from molora.errors import MoloraError
from molora.routers import grid_of
from tests.released import LAYERS, make_base

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft's

QUESTION = [{"role": "user", "content": "What are the symptoms of asthma?"}]
TEXT = "How is diabetes treated? With insulin, diet and exercise."
TARGETS = ("q_proj", "down_proj")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A base and three LoRA adapters on it."""
    root = tmp_path_factory.mktemp("xlora")
    base, adapters = make_base(root / "base"), {}
    for number in range(3):
        torch.manual_seed(number)
        lora = LoraConfig(r=4, target_modules=list(TARGETS), init_lora_weights=False, task_type="CAUSAL_LM")
        get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora).save_pretrained(str(root / str(number)))
        adapters[str(number)] = str(root / str(number))
    return base, adapters


def make(parts: tuple[Path, dict[str, str]], folder: Path, **options: Any) -> Any:
    """An X-LoRA with a random classifier, saved to the folder; the model as peft has it."""
    base, adapters = parts
    network = AutoModelForCausalLM.from_pretrained(base)
    network.config.use_cache = False
    torch.manual_seed(9)
    config = XLoraConfig(task_type="CAUSAL_LM", hidden_size=64, adapters=adapters, **options)
    model = get_peft_model(network, config).eval()
    config.save_pretrained(str(folder))
    settings(folder, base_model_name_or_path=str(base))
    tensors = {name: tensor for name, tensor in model.state_dict().items() if "internal_xlora_classifier" in name}
    save_file(tensors, folder / "adapter_model.safetensors")
    for name, path in adapters.items():
        shutil.copytree(path, folder / name)
    return model


def settings(folder: Path, **changed: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def applied(scalings: torch.Tensor, top_k: int | None) -> np.ndarray:
    """What each linear multiplies with, [N, L, P, E], from the scalings [1, N, linears, E] that peft reports."""
    if top_k is not None:
        least = scalings.topk(top_k, dim=-1).values[..., -1:]
        scalings = scalings * (scalings >= least)
    return scalings[0].unflatten(1, (LAYERS, len(TARGETS))).numpy()


def dense(trace: molora.RoutingTrace) -> np.ndarray:
    """The weights of a trace by expert [T, L, P, E]."""
    whole = np.zeros(trace.router_logits.shape, np.float32)
    np.put_along_axis(whole, trace.expert_ids.astype(np.int64), trace.expert_weights, axis=-1)
    return whole


@pytest.mark.parametrize(
    "options",
    [{"layerwise_scalings": True, "top_k_lora": 2}, {"layerwise_scalings": False}, {"xlora_depth": 2, "xlora_size": 8}],
    ids=str,
)
def test_a_trace_is_what_peft_reports_and_the_answer_its_own(
    parts: tuple[Path, dict[str, str]], tmp_path: Path, options: dict[str, Any]
) -> None:
    model = make(parts, tmp_path, **options)
    engine = molora.load(str(tmp_path))
    top_k = options.get("top_k_lora")
    assert engine.info.projections == TARGETS
    assert (engine.info.num_experts, engine.info.top_k) == (3, top_k or 3)
    assert len(engine.info.adapter_sha256) == 64
    trace = engine.trace_text(TEXT)
    with torch.inference_mode():
        model(torch.tensor([trace.token_ids.tolist()]))
    scalings = model.base_model.get_latest_scalings()
    np.testing.assert_array_equal(dense(trace), applied(scalings, top_k))
    softmax = np.exp(trace.router_logits) / np.exp(trace.router_logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(softmax, applied(scalings, None), rtol=1e-5)

    step = engine.answer(QUESTION, max_new_tokens=5)
    prompt = torch.tensor([encode_chat(engine.tokenizer, QUESTION).token_ids])
    generated = model.generate(input_ids=prompt, max_new_tokens=5, do_sample=False)[0].tolist()
    assert step.trace.token_ids.tolist() == generated[:-1]
    with torch.inference_mode():
        model(torch.tensor([generated[:-1]]))
    expected = applied(model.base_model.get_latest_scalings(), top_k)
    np.testing.assert_allclose(dense(step.trace), expected, rtol=1e-4, atol=1e-6)  # other batch shapes


def test_dropping_an_adapter_is_the_model_with_its_b_at_zero(
    parts: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    make(parts, tmp_path, layerwise_scalings=True, top_k_lora=2)
    engine = molora.load(str(tmp_path))
    ids = engine.tokenizer(TEXT)["input_ids"]

    def logits(edit: RoutingEdit | None) -> torch.Tensor:
        reading = engine._reading(len(ids), 0, edit)
        with reading.recording():
            return reading.read(ids, [""] * len(ids), [1] * len(ids))

    usual, dropped = logits(None), logits(RoutingEdit.drop([1], projections=["q_proj"]))
    trace = engine.trace_text(TEXT, RoutingEdit.drop([1], projections=["q_proj"]))
    assert not (trace.expert_ids[:, :, 0] == 1).any()
    assert (trace.expert_ids[:, :, 1] == 1).any()
    np.testing.assert_array_equal(trace.expert_ids == -1, trace.expert_weights == 0)
    assert torch.equal(logits(None), usual), "nothing is left behind"
    with torch.no_grad():
        for name, weight in engine.model.named_parameters():
            if "q_proj.lora_B.1" in name:
                weight.zero_()
    torch.testing.assert_close(dropped, logits(None))
    assert (dropped - usual).abs().max() > 1e-3


def test_other_edits_are_refused(parts: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    make(parts, tmp_path, top_k_lora=1)
    with pytest.raises(MoloraError, match=r"X-LoRA does not allow that. Edits that work with it: drop"):
        molora.load(str(tmp_path)).trace_text(TEXT, RoutingEdit.reroute([0]))


def test_an_engine_around_a_loaded_peft_model(parts: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    model = make(parts, tmp_path)
    loaded = molora.load(str(tmp_path))
    by_hand = Engine(model, loaded.tokenizer, loaded.info)
    np.testing.assert_array_equal(by_hand.trace_text(TEXT).expert_weights, loaded.trace_text(TEXT).expert_weights)


WEIGHTS = "adapter_model.safetensors"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "1" / WEIGHTS).unlink(), f"1 holds no {WEIGHTS}"),
        (lambda folder: (folder / WEIGHTS).unlink(), f"holds no {WEIGHTS}"),
        (lambda folder: settings(folder, hidden_size=32), r"(?s)incomplete or does not fit its base: .*size mismatch"),
        (lambda folder: save_file({}, folder / WEIGHTS), r"(?s)does not fit its base: .*Missing key"),
        (lambda folder: thin_out(folder / "2" / WEIGHTS), "holds 11 LoRA tensors; .* for 12"),
        (lambda folder: settings(folder, adapters={}), "names no adapters"),
    ],
)
def test_missing_or_strange_parts_are_named(
    parts: tuple[Path, dict[str, str]], tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    make(parts, tmp_path)
    change(tmp_path)
    with pytest.raises(MoloraError, match=message):
        molora.load(str(tmp_path))


def thin_out(path: Path) -> None:
    save_file(dict(list(load_file(path).items())[1:]), path)


def test_a_plain_peft_lora_is_not_taken_for_x_lora(parts: tuple[Path, dict[str, str]]) -> None:
    base, adapters = parts
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapters["0"])
    assert grid_of(model).routers == []
