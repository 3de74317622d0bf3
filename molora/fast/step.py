"""One token, or many, through a Llama- or Qwen2-shaped model: what its modules compute, as one flat function.

Axes: N tokens, L layers, I hidden size, M of the FFN, H query heads, G key and value heads, D their size, T tokens so
far, V vocabulary, P, E, K as ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache

from molora.edits import Masks
from molora.fast.adapter import Experts, Picked, PlainLora
from molora.fast.attention import attention, attention_of_many
from molora.fast.cache import Among, Appended, GrowingLayer, Placed
from molora.fast.head import head_product
from molora.fast.plan import Plan
from molora.fast.product import Product, bias_of, biases_of, is_plain, product
from molora.layers import MoloraLinear

_FEW = 8
"""Tokens that are read faster in 4 bits than in the dtype of a prompt. The kernel for 4 bits takes each for itself: 24
take it as long."""


class Site:
    """Linears that read the same input: the base's product, and what their adapters add."""

    def __init__(
        self,
        linears: Sequence[nn.Linear | MoloraLinear],
        pack: bool,
        dtype: torch.dtype,
        experts: type[Experts],
        *,
        apart: bool = False,
    ) -> None:
        """`dtype`: of the products with many tokens; `apart`: whether their results are worked on each for itself."""
        wrapped = [linear for linear in linears if isinstance(linear, MoloraLinear)]
        plain = [linear.base_layer if isinstance(linear, MoloraLinear) else linear for linear in linears]
        self.linears, self._pack, self._dtype, self._apart = plain, pack, dtype, apart
        self._plain = all(map(is_plain, plain))
        self.experts = experts(wrapped) if wrapped and wrapped[0].router is not None else None
        self.lora = PlainLora(wrapped) if wrapped and self.experts is None else None

    @cached_property
    def base(self) -> Product:
        """Packed at the first token that is read alone: a prompt does not wait for it."""
        return product(self.linears, self._pack)

    @property
    def nbytes(self) -> int:
        """What one token reads."""
        return self.base.nbytes + sum(part.nbytes for part in (self.experts, self.lora) if part is not None)

    def __call__(self, x: Tensor, masks: Masks | None, lora: bool, seen: list[Picked]) -> Tensor:
        """x [1, I] -> [1, O of all]; adds to `seen` what routers there are decided."""
        y = self.base.multiply(x)
        if self.experts is not None:
            y, picked = self.experts.add(x, y, masks)
            seen.append(picked)
        elif self.lora is not None and lora:
            y = self.lora.add(x, y)
        return y

    def many(self, x: Tensor, masks: Masks | None, lora: bool, seen: Any) -> list[Tensor]:
        """The same for x [N, I]: [N, O] of each, or [N, P*O] of all, in the dtype of products with many tokens. `seen`:
        as the experts take it."""
        read, few = x.to(self._dtype), self._few(len(x))
        if self.experts is None and not few and (self._copies or (lora and self._merges)):
            return [F.linear(read, *each) for each in (self._merged if lora else self._joined)]
        parts = self._parts(read)
        if self.experts is not None:
            self.experts.add_many(x, parts, masks, seen)
        elif self.lora is not None and lora:
            parts = [self.lora.add(read, torch.cat(parts, dim=-1))]
        return parts

    def gated(self, x: Tensor, masks: Masks | None, lora: bool, seen: Any) -> Tensor:
        """silu(gate) * up [N, O] of what `many` gives for the two."""
        if self.experts is None:
            gate, up = _halves(self.many(x, masks, lora, seen))
            return F.silu(gate).mul_(up)
        gate, up = self._parts(x.to(self._dtype))
        return self.experts.gate_many(x, gate, up, masks, seen)

    def _few(self, tokens: int) -> bool:
        """Whether so many are read as a single one is."""
        return self._pack and tokens <= _FEW and self.base.packed is not None

    def _parts(self, read: Tensor) -> list[Tensor]:
        if not self._plain:
            return [linear(read) for linear in self.linears]
        if self._few(len(read)):
            widths = [linear.out_features for linear in self.linears]
            return [part.contiguous() for part in self.base.multiply(read).to(self._dtype).split(widths, dim=-1)]
        return [F.linear(read, *each) for each in self._weights]

    @property
    def _copies(self) -> bool:
        return self._plain and self._dtype != self.linears[0].weight.dtype

    @property
    def _merges(self) -> bool:
        """Whether plain LoRA is worth a copy of the weights: where single tokens are read from one anyway."""
        return self._plain and self._pack and self.lora is not None

    @cached_property
    def _weights(self) -> list[tuple[Tensor, Tensor | None]]:
        """For many tokens: those of the linears themselves, or copies in another dtype."""
        return [(linear.weight.to(self._dtype), _as(bias_of(linear), self._dtype)) for linear in self.linears]

    @cached_property
    def _joined(self) -> list[tuple[Tensor, Tensor | None]]:
        """The copies of all linears in one; of linears that are read apart, their own."""
        return self._copied(0)

    @cached_property
    def _merged(self) -> list[tuple[Tensor, Tensor | None]]:
        """The same with what plain LoRA there is added: it takes no routing, so it need not stand apart."""
        return self._joined if self.lora is None else self._copied(self.lora.product)

    def _copied(self, added: Tensor | float) -> list[tuple[Tensor, Tensor | None]]:
        weight = torch.cat([linear.weight.detach() for linear in self.linears]).add(added).to(self._dtype)  # [P*O, I]
        bias = _as(biases_of(self.linears), self._dtype)
        if not self._apart:
            return [(weight, bias)]
        widths = [linear.out_features for linear in self.linears]
        biases = [None] * len(widths) if bias is None else bias.split(widths)
        return list(zip(weight.split(widths), biases, strict=True))


def _as(bias: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if bias is None else bias.to(dtype)


class Layer(NamedTuple):
    """What one decoder layer is made of."""

    norm: nn.Module
    qkv: Site
    out: Site
    mlp_norm: nn.Module
    gate_up: Site
    down: Site


class Step:
    """The weights of the lean pass. They are those of the model where no copy is faster, so do not change the model."""

    _experts: type[Experts] = Experts

    def __init__(self, model: Any, pack: bool, prompt_dtype: torch.dtype | None = None) -> None:
        """The model must have the shape that `store.fits` asks for; `pack`: its base in 4 bits where it has no more;
        `prompt_dtype`: of products with many tokens, None: as the model is."""
        config, body = model.config, model.model
        self._heads, self._groups = config.num_attention_heads, config.num_key_value_heads
        first = body.layers[0].self_attn
        self._size, self._scale = first.head_dim, first.scaling
        self._embedding, self._rotary, self._norm = body.embed_tokens.weight, body.rotary_emb, body.norm
        self._lm_head, self._pack = model.lm_head, pack
        self._dtype = prompt_dtype or self._embedding.dtype
        how = pack, self._dtype, self._experts
        self.layers = [
            Layer(
                layer.input_layernorm,
                Site([layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj], *how),
                Site([layer.self_attn.o_proj], *how),
                layer.post_attention_layernorm,
                Site([layer.mlp.gate_proj, layer.mlp.up_proj], *how, apart=True),
                Site([layer.mlp.down_proj], *how),
            )
            for layer in body.layers
        ]

    @cached_property
    def _head(self) -> Product:
        return head_product(self._lm_head, self._pack)

    def warm_up(self) -> None:
        """Prepares, in whatever time it takes, what would keep the first pass from being as fast as the next."""

    @property
    def nbytes(self) -> int:
        """What one token reads of the weights, in the copies that are really read; keys and values are left out."""
        sites = [site for layer in self.layers for site in (layer.qkv, layer.out, layer.gate_up, layer.down)]
        return self._head.nbytes + self._norm_bytes + sum(one.nbytes for one in sites)

    @property
    def _norm_bytes(self) -> int:
        norms = [self._norm, *(norm for layer in self.layers for norm in (layer.norm, layer.mlp_norm))]
        return sum(one.weight.nbytes for one in norms)

    def __call__(self, token: Tensor, cache: DynamicCache, plan: Plan) -> tuple[Tensor, list[Picked]]:
        """Reads one token, int64 [1], after others in the cache; logits [1, V], and the routers' picks in their order:
        for each layer those of gate and up together, then those of down."""
        position = torch.tensor([cache.get_seq_length()], device=token.device)
        return self.read(token, position, cache, plan, Appended())

    def read(
        self, token: Tensor, position: Tensor, cache: DynamicCache, plan: Plan, way: Appended | Placed
    ) -> tuple[Tensor, list[Picked]]:
        """The same at a position, int64 [1]; `way`: how its keys and values come into the cache."""
        x = self._embedding[token]  # [1, I]
        cos, sin = self._turn(x, position)
        seen: list[Picked] = []
        for number, (layer, kept) in enumerate(zip(self.layers, cache.layers, strict=True)):
            masks = plan.masks.get(number, (None, None))
            x = x + self._attend(layer, normed(layer.norm, x), cos, sin, kept, plan.attention, way)
            both = layer.gate_up(normed(layer.mlp_norm, x), masks[0], plan.mlp, seen)  # [1, 2*M]
            gate, up = both.chunk(2, dim=-1)
            x = x + layer.down(F.silu(gate) * up, masks[1], plan.mlp, seen)
        return self._head.multiply(normed(self._norm, x)), seen

    def many(
        self,
        tokens: Tensor,
        cache: DynamicCache,
        plan: Plan,
        kept: int | Tensor = 1,
        among: Among | None = None,
    ) -> tuple[Tensor, list[Picked]]:
        """The same for tokens, int64 [N], after whatever is in the cache; logits [R, V] after the `kept` ones, the last
        so many or those at int64 [R]. `among`: where they stand, if not one after the other."""
        x, past = self._embedding[tokens], cache.get_seq_length()  # [N, I]
        count = len(tokens)
        positions = torch.arange(past, past + count, device=x.device) if among is None else among.positions  # [N]
        cos, sin = self._angles(x, positions)  # [N, D]
        turn = cos[:, None], sin[:, None]  # [N, 1, D]
        seen, sees = self._seen(count), None if among is None else among.seen
        for number, (layer, own) in enumerate(zip(self.layers, cache.layers, strict=True)):
            masks = plan.masks.get(number, (None, None))
            x = x + self._attend_many(layer, normed(layer.norm, x), turn, own, plan.attention, sees)
            inner = layer.gate_up.gated(normed(layer.mlp_norm, x), masks[0], plan.mlp, seen)
            x = x + layer.down.many(inner, masks[1], plan.mlp, seen)[0]
        last = normed(self._norm, x[kept] if isinstance(kept, Tensor) else x[-kept:])  # [R, I]
        return F.linear(last, self._lm_head.weight, bias_of(self._lm_head)), self._picked(seen)

    def _seen(self, tokens: int) -> Any:
        """What takes the picks of the routers for so many tokens."""
        return []

    def _picked(self, seen: Any) -> list[Picked]:
        """What it took."""
        picked: list[Picked] = seen
        return picked

    def _attend_many(
        self,
        layer: Layer,
        x: Tensor,
        turn: tuple[Tensor, Tensor],
        kept: GrowingLayer,
        lora: bool,
        sees: Tensor | None,
    ) -> Tensor:
        heads, groups, size = self._heads, self._groups, self._size
        states = _whole(layer.qkv.many(x, None, lora, [])).to(x.dtype).view(len(x), -1, size)  # [N, H+2G, D]
        turned, values = states.split([heads + groups, groups], dim=1)
        turned = torch.addcmul(turned * turn[0], turned.roll(size // 2, -1), turn[1])  # [N, H+G, D]
        query, keys, values = (one.transpose(0, 1)[None] for one in (*turned.split([heads, groups], dim=1), values))
        keys, values = kept.update(keys, values)  # [1, G, T, D]
        y = attention_of_many(query[0], keys[0], values[0], self._scale, self._dtype, sees)  # [H, N, D]
        return layer.out.many(y.transpose(0, 1).flatten(1), None, lora, [])[0]

    def _attend(
        self,
        layer: Layer,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        kept: GrowingLayer,
        lora: bool,
        way: Appended | Placed,
    ) -> Tensor:
        heads, groups, size = self._heads, self._groups, self._size
        states = layer.qkv(x, None, lora, []).view(heads + 2 * groups, size)  # [H+2G, D]
        states = torch.addcmul(states * cos, states.roll(size // 2, -1), sin)  # the values turn by nothing
        keys, values = way.put(kept, states[heads:].view(2, 1, groups, 1, size))  # [1, G, T, D]
        return layer.out(self.attend(states[:heads], keys, values, way.mask), None, lora, [])

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """One token's queries [H, D], keys and values [1, G, T, D] -> [1, H*D]; mask [1, 1, 1, T] is True where it
        sees."""
        grouped = query.view(1, keys.shape[1], -1, self._size)  # one key head's queries as if they were tokens
        return attention(grouped, keys, values, self._scale, mask).view(1, -1)

    def _turn(self, x: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines [H+2G, D] that turn queries and keys to a position and leave the values."""
        cos, sin = self._angles(x, position)  # [1, D]
        turned, still = self._heads + self._groups, cos.new_zeros(self._groups, self._size)
        return torch.cat([cos.expand(turned, -1), still + 1]), torch.cat([sin.expand(turned, -1), still])

    def _angles(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines [N, D] of positions [N]: `sin` goes with the halves swapped."""
        cos, sin = self._rotary(x, positions[None])  # [1, N, D]
        sign = torch.ones_like(sin[0, :1])  # [1, D]
        sign[:, : self._size // 2] = -1
        return cos[0], sin[0] * sign


def _whole(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def _halves(parts: list[Tensor]) -> Sequence[Tensor]:
    return parts if len(parts) == 2 else parts[0].chunk(2, dim=-1)


def normed(norm: Any, x: Tensor) -> Tensor:
    """RMSNorm."""
    return F.rms_norm(x, norm.weight.shape, norm.weight, norm.variance_epsilon)
