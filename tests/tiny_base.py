"""A chat model of a few kilobytes as GGUF in a wheel: what the demo's base is, without its 93 MB."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray
from tokenizers.pre_tokenizers import ByteLevel

from molora.demo import Source
from molora.wheels import Wheel

HIDDEN, FFN, HEADS, KV_HEADS, LAYERS = 32, 48, 4, 2, 2
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
WHEEL = "tiny_base-1.0-py3-none-any.whl"


def vocabulary() -> tuple[list[str], list[str]]:
    """Tokens and merges: the special ones, each byte, two blanks as one, and "12", which one digit a token forbids."""
    return [*SPECIAL, *sorted(ByteLevel.alphabet()), "ĠĠ", "12"], ["Ġ Ġ", "1 2"]


def weights(seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """By their names in GGUF. The output layer is tied to the embedding, so it has none."""
    rng = np.random.default_rng(seed)
    head = HIDDEN // HEADS
    shapes = {"token_embd": (len(vocabulary()[0]), HIDDEN)}
    for layer in range(LAYERS):
        shapes |= {
            f"blk.{layer}.attn_q": (HIDDEN, HIDDEN),
            f"blk.{layer}.attn_k": (KV_HEADS * head, HIDDEN),
            f"blk.{layer}.attn_v": (KV_HEADS * head, HIDDEN),
            f"blk.{layer}.attn_output": (HIDDEN, HIDDEN),
            f"blk.{layer}.ffn_gate": (FFN, HIDDEN),
            f"blk.{layer}.ffn_up": (FFN, HIDDEN),
            f"blk.{layer}.ffn_down": (HIDDEN, FFN),
        }
    tensors = {f"{name}.weight": rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    norms = ["output_norm", *(f"blk.{layer}.{kind}_norm" for layer in range(LAYERS) for kind in ("attn", "ffn"))]
    return tensors | {f"{name}.weight": np.ones(HIDDEN, np.float32) for name in norms}


def write_gguf(path: Path) -> None:
    tokens, merges = vocabulary()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Tiny")
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if token in SPECIAL else gguf.TokenType.NORMAL for token in tokens])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template("{{ 'not the template of this project' }}")
    for name, value in weights().items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_wheel(folder: Path) -> Path:
    """A wheel that pip accepts, with the model inside."""
    write_gguf(folder / "tiny.gguf")
    info = "tiny_base-1.0.dist-info"
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        wheel.write(folder / "tiny.gguf", "tiny_base/tiny.gguf")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-base\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return folder / WHEEL


def source_of(wheel: Path) -> Source:
    with zipfile.ZipFile(wheel) as archive:
        model = archive.read("tiny_base/tiny.gguf")
    return Source(
        wheel=Wheel("tiny-base==1.0", wheel.name, hashlib.sha256(wheel.read_bytes()).hexdigest(), "a tiny base model"),
        gguf="tiny_base/tiny.gguf",
        gguf_sha256=hashlib.sha256(model).hexdigest(),
    )
