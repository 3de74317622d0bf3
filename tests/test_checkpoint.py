from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from molora.checkpoint import check_fit, fill, read_checkpoint, slots, write_checkpoint
from molora.config import MoloraConfig
from molora.errors import MoloraError
from molora.layers import MoloraLinear
from molora.wrap import wrap, wrapped_linears
from tests.released import make_checkpoint, make_tensors

PEFT_WARNS = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
"""peft asks transformers for an attribute that transformers renamed."""

PREFIXES = ("base_model.model.model.", "base_model.model.", "model.model.")


def wrapped(base: Path, config: MoloraConfig) -> Any:
    return wrap(AutoModelForCausalLM.from_pretrained(base), config)


def filled(folder: Path, base: Path) -> Any:
    checkpoint = read_checkpoint(folder)
    model = wrapped(base, checkpoint.config)
    fill(checkpoint, model)
    return model


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_released_name_reaches_its_place(
    base: Path, tmp_path: Path, prefix: str, suffix: Literal["bin", "safetensors"]
) -> None:
    model = filled(make_checkpoint(tmp_path, base, prefix=prefix, suffix=suffix), base)
    attention, mixture = make_tensors(prefix, 8, 4, torch.bfloat16)
    for name, linear in wrapped_linears(model).items():
        if linear.router is None:
            at = f"base_model.model.model.{name}"
            torch.testing.assert_close(linear.lora_A.data, attention[f"{at}.lora_A.weight"].float(), rtol=0, atol=0)
            torch.testing.assert_close(linear.lora_B.data, attention[f"{at}.lora_B.weight"].float(), rtol=0, atol=0)
            continue
        at = f"{prefix}{name}"
        torch.testing.assert_close(linear.router.weight.data, mixture[f"{at}.switch.weight"].float(), rtol=0, atol=0)
        torch.testing.assert_close(linear.router.bias.data, mixture[f"{at}.switch.bias"].float(), rtol=0, atol=0)
        for e in range(8):
            a, b = linear.lora_A.data.view(8, 4, -1)[e], linear.lora_B.data.view(-1, 8, 4)[:, e]
            torch.testing.assert_close(a, mixture[f"{at}.experts.{e}.lora_A_{e}.weight"].float(), rtol=0, atol=0)
            torch.testing.assert_close(b, mixture[f"{at}.experts.{e}.lora_B_{e}.weight"].float(), rtol=0, atol=0)


@PEFT_WARNS
def test_attention_part_equals_peft_on_the_same_files(base: Path, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, base, suffix="safetensors", dtype=torch.float32)
    model = filled(folder, base)
    for linear in wrapped_linears(model).values():
        if linear.router is not None:
            linear.lora_B.data.zero_()  # experts say nothing: what is left is the attention's LoRA
    with torch.inference_mode():
        ids = torch.arange(20)[None]
        ours = model.eval()(ids).logits
        plain = AutoModelForCausalLM.from_pretrained(base)
        without = plain(ids).logits
        theirs = PeftModel.from_pretrained(plain, str(folder)).eval()(ids).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert (theirs - without).abs().max() > 1e-2, "the adapter must matter for the comparison to mean anything"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_written_checkpoints_keep_dtype_and_values(base: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    read = read_checkpoint(make_checkpoint(tmp_path / "a", base, dtype=dtype))
    model = filled(tmp_path / "a", base)
    write_checkpoint(tmp_path / "b", model, read.config, read.base_config, read.dtype)
    again = read_checkpoint(tmp_path / "b")
    assert again.config == read.config
    for part, tensors in read.tensors.items():
        assert again.tensors[part].keys() == tensors.keys()
        for name, tensor in tensors.items():
            torch.testing.assert_close(again.tensors[part][name], tensor, rtol=0, atol=0)
    assert not list((tmp_path / "b").glob("*.bin"))
    assert all(name.startswith(PREFIXES[0]) for name in load_file(tmp_path / "b/non_lora_trainables.safetensors"))


@PEFT_WARNS
def test_one_expert_is_plain_lora_on_the_ffn_as_well(base: Path, tmp_path: Path) -> None:
    targets = ("q_proj", "gate_proj", "up_proj", "down_proj")
    config = MoloraConfig(num_experts=1, top_k=1, target_modules=tuple(sorted(targets)), base=str(base))
    model = wrapped(base, config)
    assert {name.rpartition(".")[2] for name in wrapped_linears(model)} == set(targets)
    for slot in slots(model):
        slot.tensor.normal_()
    write_checkpoint(tmp_path, model, config, model.config.to_diff_dict(), torch.float32)
    assert not (tmp_path / "non_lora_trainables.safetensors").exists()
    again = filled(tmp_path, base)
    with torch.inference_mode():
        ids = torch.arange(9)[None]
        torch.testing.assert_close(again(ids).logits, model(ids).logits)
        peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(tmp_path))
        torch.testing.assert_close(peft.eval()(ids).logits, model(ids).logits, rtol=1e-4, atol=1e-4)


Change = Callable[[dict[str, torch.Tensor]], Any]
_SWITCH = "base_model.model.model.layers.0.mlp.up_proj.switch.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(_SWITCH), r"lacks layers\.0\.mlp\.up_proj\.switch\.weight \[8, 64\]"),
        (
            lambda t: t.update({"model.model.layers.7.mlp.up_proj.switch.bias": torch.zeros(8)}),
            r"holds layers\.7\.mlp\.up_proj\.switch\.bias \[8\], for which the model has no place",
        ),
        (
            lambda t: t.update({_SWITCH: torch.zeros(8, 65)}),
            r"layers\.0\.mlp\.up_proj\.switch\.weight has shape \[8, 65\]; \[8, 64\] was expected",
        ),
        (lambda t: t.update({_SWITCH: torch.full((8, 64), torch.nan)}), "not finite numbers"),
        (
            lambda t: t.update({_SWITCH.removeprefix("base_model."): torch.zeros(8, 64)}),
            r"holds layers\.0\.mlp\.up_proj\.switch\.weight twice",
        ),
    ],
)
def test_wrong_tensors_are_named_and_nothing_is_half_loaded(
    base: Path, tmp_path: Path, change: Change, message: str
) -> None:
    path = make_checkpoint(tmp_path, base) / "non_lora_trainables.bin"
    tensors = torch.load(path, weights_only=True)
    change(tensors)
    torch.save(tensors, path)
    model = wrapped(base, MoloraConfig.from_files(*_configs(tmp_path)))
    before = {name: p.clone() for name, p in model.state_dict().items()}
    with pytest.raises(MoloraError, match=message):
        fill(read_checkpoint(tmp_path), model)
    for name, p in model.state_dict().items():
        torch.testing.assert_close(p, before[name], rtol=0, atol=0)


def test_fit_can_be_checked_without_weights(base: Path, checkpoint: Path) -> None:
    read = read_checkpoint(checkpoint)
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base))
    check_fit(read, wrap(skeleton, read.config))
    assert isinstance(skeleton.model.layers[0].mlp.gate_proj, MoloraLinear)


class _Attack:
    """Unpickled in full it would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: (d / "non_lora_trainables.bin").unlink(), "routers and experts are missing. Download the whole"),
        (lambda d: (d / "adapter_model.bin").unlink(), "the attention LoRA is missing. Download the whole"),
        (lambda d: (d / "config.json").unlink(), "holds no config.json"),
        (lambda d: (d / "adapter_config.json").write_text("{"), "cannot be read as JSON"),
        (lambda d: (d / "adapter_config.json").write_text("[]"), "holds list; an object with settings is expected"),
        (lambda d: _truncate(d / "non_lora_trainables.bin"), "damaged or cut short"),
        (lambda d: torch.save([1], d / "adapter_model.bin"), "holds no state dict"),
        (lambda d: torch.save({}, d / "adapter_model.bin"), "holds no tensors"),
        (lambda d: torch.save(_Attack(d / "ran"), d / "adapter_model.bin"), "it was not run. Get the file again"),
    ],
)
def test_spoilt_folders_are_refused(base: Path, tmp_path: Path, spoil: Callable[[Path], Any], message: str) -> None:
    spoil(make_checkpoint(tmp_path, base))
    with pytest.raises(MoloraError, match=re.escape(message)):
        read_checkpoint(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_truncated_safetensors_are_refused(base: Path, tmp_path: Path) -> None:
    make_checkpoint(tmp_path, base, suffix="safetensors")
    _truncate(tmp_path / "non_lora_trainables.safetensors")
    with pytest.raises(MoloraError, match="damaged or cut short"):
        read_checkpoint(tmp_path)


def test_missing_folder() -> None:
    with pytest.raises(MoloraError, match=r"There is no folder nowhere. Give a folder of a checkpoint, or a hub id"):
        read_checkpoint(Path("nowhere"))


def _truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _configs(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    read = (json.loads((folder / name).read_text()) for name in ("config.json", "adapter_config.json"))
    return next(read), next(read)
