"""The sizes of the released MING-MOE models: what to expect of one before a byte of it is fetched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from molora.config import ATTENTION_PROJECTIONS, EXPERT_PROJECTIONS, LoraConfig, MoloraConfig


@dataclass(frozen=True)
class Shape:
    """A Qwen1.5 chat model with a mixture on every FFN projection and LoRA on the attention."""

    base: str
    """Hub id that the checkpoint names."""
    layers: int
    hidden: int
    ffn: int
    heads: int
    """Keys and values have as many: Qwen1.5 does not group queries below 32B."""
    vocabulary: int
    context: int = 32768
    experts: int = 8
    top_k: int = 2
    rank: int = 16
    alpha: float = 32.0

    @property
    def config(self) -> MoloraConfig:
        lora = LoraConfig(self.rank, self.alpha)
        return MoloraConfig(self.experts, self.top_k, experts=lora, attention=lora, base=self.base)

    @property
    def base_config(self) -> dict[str, Any]:
        """`config.json` of the base."""
        return {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "intermediate_size": self.ffn,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.heads,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": self.context,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1000000.0,
            "initializer_range": 0.02,
            "tie_word_embeddings": False,
            "use_sliding_window": False,
            "torch_dtype": "bfloat16",
        }

    def linears(self) -> dict[str, tuple[int, int]]:
        """Of one layer: `mlp.up_proj` -> (out, in)."""
        attention = {f"self_attn.{name}": (self.hidden, self.hidden) for name in ATTENTION_PROJECTIONS}
        inner = {"down_proj": (self.hidden, self.ffn)}
        return attention | {f"mlp.{name}": inner.get(name, (self.ffn, self.hidden)) for name in EXPERT_PROJECTIONS}

    def layer_tensors(self, layer: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes of one layer's base weights, as `model.safetensors` holds them."""
        at = f"model.layers.{layer}"
        for name, shape in self.linears().items():
            yield f"{at}.{name}.weight", shape
            if name.endswith(("q_proj", "k_proj", "v_proj")):
                yield f"{at}.{name}.bias", shape[:1]
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield f"{at}.{norm}.weight", (self.hidden,)

    @property
    def linear_weights(self) -> int:
        """Of all layers: what quantization packs."""
        return self.layers * sum(out * inner for out, inner in self.linears().values())

    @property
    def other_weights(self) -> int:
        """Embedding, head, norms and biases, which quantization leaves as they are."""
        return 2 * self.vocabulary * self.hidden + self.layers * 5 * self.hidden + self.hidden

    @property
    def adapter_weights(self) -> int:
        """Routers, experts and attention LoRA."""
        total = 0
        for name, (out, inner) in self.linears().items():
            mixed = name.startswith("mlp.")
            total += self.rank * (out + inner) * (self.experts if mixed else 1)
            total += self.experts * (inner + 1) if mixed else 0
        return self.layers * total

    def cache_bytes(self, tokens: int) -> int:
        """Keys and values of a conversation, in bf16."""
        return 2 * 2 * self.layers * self.hidden * tokens


SHAPES = {
    "MING-MOE-1.8B": Shape("Qwen/Qwen1.5-1.8B-Chat", 24, 2048, 5504, 16, 151936),
    "MING-MOE-4B": Shape("Qwen/Qwen1.5-4B-Chat", 40, 2560, 6912, 20, 151936),
    "MING-MOE-7B": Shape("Qwen/Qwen1.5-7B-Chat", 32, 4096, 11008, 32, 151936),
    "MING-MOE-14B": Shape("Qwen/Qwen1.5-14B-Chat", 40, 5120, 13696, 40, 152064),
}
