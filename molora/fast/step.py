"""One token, or many, through a Llama- or Qwen2-shaped model: what its modules compute, as one flat function.

Axes: N tokens, L layers, I hidden size, M of the FFN, H query heads, G key and value heads, D their size, T tokens so
far, V vocabulary, P, E, K as ever.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache

from molora.fast.adapter import Experts, Picked
from molora.fast.attention import attention, attention_of_many
from molora.fast.cache import Among, Appended, GrowingLayer, Placed
from molora.fast.head import head_product
from molora.fast.plan import Plan
from molora.fast.product import Product, bias_of
from molora.fast.site import Site, normed
from molora.likeliest import likeliest


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

    _site: type[Site] = Site
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
                self._site([layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj], *how),
                self._site([layer.self_attn.o_proj], *how),
                layer.post_attention_layernorm,
                self._site([layer.mlp.gate_proj, layer.mlp.up_proj], *how, apart=True),
                self._site([layer.mlp.down_proj], *how),
            )
            for layer in body.layers
        ]

    @cached_property
    def _head(self) -> Product:
        return head_product(self._lm_head, self._pack)

    def warm_up(self) -> None:
        """Prepares, in whatever time it takes, what would keep the first pass from being as fast as the next."""

    def likeliest(self, logits: Tensor) -> Tensor:
        """As `molora.likeliest`."""
        return likeliest(logits)

    @property
    def nbytes(self) -> int:
        """What one token reads of the weights, in the copies that are really read; keys and values are left out."""
        sites = [site for layer in self.layers for site in (layer.qkv, layer.out, layer.gate_up, layer.down)]
        return self._head.nbytes + self._norm_bytes + sum(one.nbytes for one in sites)

    @cached_property
    def _routed(self) -> list[tuple[int, int, int]]:
        """How many routers there are, E and K; none for none."""
        sites = (site for layer in self.layers for site in (layer.gate_up, layer.down))
        sizes = [site.experts.sizes for site in sites if site.experts is not None]
        return [(sum(count for count, *_ in sizes), *sizes[0][1:])] if sizes else []

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
        seen = self._seen(count)
        for number, (layer, own) in enumerate(zip(self.layers, cache.layers, strict=True)):
            masks = plan.masks.get(number, (None, None))
            found = self._attend_many(layer, x, turn, own, plan.attention, among, seen)
            layer.out.add_many(x, found, None, plan.attention, seen)
            inner = layer.gate_up.gated(x, masks[0], plan.mlp, seen, layer.mlp_norm)
            layer.down.add_many(x, inner, masks[1], plan.mlp, seen)
        return self._last(x, kept), self._picked(seen)

    def _last(self, x: Tensor, kept: int | Tensor) -> Tensor:
        """Logits [R, V] after the `kept` ones of x [N, I]."""
        last = normed(self._norm, x[kept] if isinstance(kept, Tensor) else x[-kept:])  # [R, I]
        return F.linear(last, self._lm_head.weight, bias_of(self._lm_head))

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
        among: Among | None,
        seen: Any,
    ) -> Tensor:
        """What the heads find for x [N, I] behind the norm, [N, H*D]."""
        states = _whole(layer.qkv.many(x, None, lora, seen, layer.norm)).view(len(x), -1, self._size)  # [N, H+2G, D]
        dtype, places, sees = (self._dtype, None, None) if among is None else (x.dtype, among.places, among.seen)
        query = self._turn_many(states, turn, kept, dtype, places)  # [H, N, D]
        keys, values = (kept.keys, kept.values) if places is None else kept.buffer  # [1, G, T, D]
        return self._look_many(query, keys[0], values[0], sees)

    def _look_many(self, query: Tensor, keys: Tensor, values: Tensor, seen: Tensor | None) -> Tensor:
        """As `attention_of_many`: [N, H*D]."""
        return attention_of_many(query, keys, values, self._dtype, seen).transpose(0, 1).flatten(1)

    def _turn_many(
        self,
        states: Tensor,
        turn: tuple[Tensor, Tensor],
        kept: GrowingLayer,
        dtype: torch.dtype,
        places: Tensor | None = None,
    ) -> Tensor:
        """Queries [H, N, D] of states [N, H+2G, D], turned to their positions, with the attention's scale in them; keys
        and values go into the cache, to `places` there or behind the others. `dtype`: what the queries are to be read
        in, which they may have already."""
        heads, groups, size = self._heads, self._groups, self._size
        turned, values = states.to(turn[0].dtype).split([heads + groups, groups], dim=1)
        turned = torch.addcmul(turned * turn[0], turned.roll(size // 2, -1), turn[1])  # [N, H+G, D]
        query, keys, values = (one.transpose(0, 1) for one in (*turned.split([heads, groups], dim=1), values))
        if places is None:
            kept.add(keys[None], values[None])
        else:
            kept.put(places, keys[None], values[None])
        return query * self._scale

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
        y = self._look(layer.qkv(x, None, lora, []), cos, sin, kept, way)
        return layer.out(y, None, lora, [])

    def _look(self, states: Tensor, cos: Tensor, sin: Tensor, kept: GrowingLayer, way: Appended | Placed) -> Tensor:
        """One token's queries, keys and values [1, (H+2G)*D] -> what its heads find, [1, H*D]."""
        heads, groups, size = self._heads, self._groups, self._size
        states = states.view(heads + 2 * groups, size)  # [H+2G, D]
        states = torch.addcmul(states * cos, states.roll(size // 2, -1), sin)  # the values turn by nothing
        keys, values = way.put(kept, states[heads:].view(2, 1, groups, 1, size))  # [1, G, T, D]
        return self.attend(states[:heads], keys, values, way.mask)

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """One token's queries [H, D], keys and values [1, G, T, D] -> [1, H*D]; mask [1, 1, 1, T] is added to the
        scores."""
        grouped = query.view(1, keys.shape[1], -1, self._size)  # one key head's queries as if they were tokens
        found = attention(grouped, keys, values, self._scale, mask)  # [1, G, H/G, D]
        return found.reshape(1, -1)  # on a GPU it may come with its axes in another order

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
