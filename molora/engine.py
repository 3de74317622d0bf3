"""A plain generator: messages -> Step, Step, ... Knows no user interface and starts no threads."""

from __future__ import annotations

import platform
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from molora.chat import Message, encode_chat
from molora.config import EXPERT_PROJECTIONS
from molora.errors import MoloraError
from molora.recorder import Recorder, RouterGrid
from molora.sampling import Sampler, Sampling
from molora.text import TokenText
from molora.trace import ANSWER, PROMPT, RoutingTrace

PREFILL_CHUNK = 512
"""Tokens of one prefill pass: bounds the recorder's buffer, and lets a long prompt be stopped between passes."""

_STOP_TOKENS = ("<|im_end|>", "<|endoftext|>")


@dataclass(frozen=True)
class EngineInfo:
    """What is loaded, for people and for `RoutingTrace.meta`."""

    model: str
    base: str
    adapter_sha256: str
    quantization: str
    """"none", "8bit", "4bit" (NF4)"""
    dtype: str
    device: str
    num_experts: int
    top_k: int
    """0 for a model without routers"""
    num_layers: int
    is_demo: bool
    reads_chinese: bool
    context_length: int

    @property
    def projections(self) -> tuple[str, ...]:
        return EXPERT_PROJECTIONS if self.top_k else ()


class Step(NamedTuple):
    """The answer after one more pass."""

    text: str
    """The answer so far, whole characters only"""
    trace: RoutingTrace
    """Everything read so far; the last sampled token has no row until it is read"""
    num_tokens: int
    """Tokens sampled so far"""
    finished: Literal["stop", "length"] | None
    """None while it goes on; "stop": the model ended its turn; "length": the limit did"""


class Engine:
    """A loaded model that answers and records. Several answers may be in the making at once; they do not mix."""

    def __init__(self, model: Any, tokenizer: Any, info: EngineInfo) -> None:
        self.model, self.tokenizer, self.info = model, tokenizer, info
        self._grid = RouterGrid.of(model)
        self._pass = threading.Lock()  # one forward pass at a time, so that hooks see only their own
        self._device: torch.device = model.get_input_embeddings().weight.device
        self._stop_ids = _stop_ids(model, tokenizer)

    def stream(
        self,
        messages: Sequence[Message],
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        repetition_penalty: float = 1.0,
        seed: int = 0,
    ) -> Iterator[Step]:
        """Answers a conversation; a Step after every forward pass. Closing the generator stops the work.

        Args:
            messages: `{"role", "content"}` dictionaries, the user's question last.
            max_new_tokens: cut to what the model's context has left.

        Raises:
            MoloraError: for messages or settings that cannot be used, before any work.
        """
        sampling = Sampling(max_new_tokens, temperature, top_p, repetition_penalty, seed)
        prompt = encode_chat(self.tokenizer, messages)
        room = self.info.context_length - len(prompt.token_ids)
        if room < 1:
            raise MoloraError(
                f"The conversation has {len(prompt.token_ids)} tokens; the model reads at most "
                f"{self.info.context_length}, its answer included. Shorten it or start a new one."
            )
        return self._stream(prompt.token_ids, prompt.phase, sampling, min(max_new_tokens, room))

    def answer(self, messages: Sequence[Message], **settings: Any) -> Step:
        """The last Step of `stream(messages, **settings)`."""
        return deque(self.stream(messages, **settings), maxlen=1).pop()

    def trace_text(self, text: str) -> RoutingTrace:
        """The routing of any text, read as it is, without chat template and without an answer.

        Raises MoloraError if the text is empty or longer than the model's context.
        """
        ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        if not 0 < len(ids) <= self.info.context_length:
            raise MoloraError(f"The text has {len(ids)} tokens; 1 to {self.info.context_length} can be read.")
        recorder = Recorder(self._grid, min(PREFILL_CHUNK, len(ids)), len(ids))
        with recorder.attached():
            for _ in self._read(recorder, ids, [PROMPT] * len(ids), TokenText(self.tokenizer), DynamicCache(), None):
                pass
        return recorder.trace(self._meta(None))

    def _stream(self, ids: list[int], phase: list[int], sampling: Sampling, limit: int) -> Iterator[Step]:
        meta = self._meta(sampling)
        recorder = Recorder(self._grid, min(PREFILL_CHUNK, len(ids)), len(ids) + limit)
        sampler = Sampler(sampling, self._device)
        cache = DynamicCache(config=self.model.config)
        routers = self._router_generators(sampling.seed)
        shown = TokenText(self.tokenizer)
        special = set(self.tokenizer.all_special_ids)
        read = torch.tensor([ids], device=self._device)  # [1, T]
        text = ""
        with recorder.attached():
            for logits in self._read(recorder, ids, phase, shown, cache, routers):
                if logits is None:
                    yield Step("", recorder.trace(meta), 0, None)
            for count in range(1, limit + 1):
                assert logits is not None  # the last pass of a prompt gives them
                token = sampler.draw(read, logits)  # [1, 1]
                token_id = int(token)
                if token_id in self._stop_ids:
                    yield Step(text, recorder.trace(meta), count, "stop")
                    return
                piece = shown.push(token_id)
                text += "" if token_id in special else piece
                yield Step(text, recorder.trace(meta), count, "length" if count == limit else None)
                if count < limit:
                    read = torch.cat([read, token], dim=1)  # [1, T+1]
                    logits = self._forward(recorder, token, cache, routers)
                    recorder.append([token_id], [piece], ANSWER)

    def _read(
        self, recorder: Recorder, ids: list[int], phase: list[int], shown: TokenText, cache: Any, routers: Any
    ) -> Iterator[Tensor | None]:
        """Prefill by chunks: None after each but the last, which gives the logits [1, V] of the next token."""
        for at in range(0, len(ids), PREFILL_CHUNK):
            part = ids[at : at + PREFILL_CHUNK]
            logits = self._forward(recorder, torch.tensor([part], device=self._device), cache, routers)
            recorder.append(part, shown.pieces(part), phase[at : at + PREFILL_CHUNK])
            yield logits if at + PREFILL_CHUNK >= len(ids) else None

    def _forward(self, recorder: Recorder, ids: Tensor, cache: Any, routers: Any) -> Tensor:
        """Reads `ids` [1, N] after what the cache holds; logits [1, V] of the next token.

        Inference mode and lock are held for one pass, never across a yield: whoever drives the generator may do so
        from another thread each time.
        """
        with self._pass, torch.inference_mode(), recorder.reading(ids.shape[1]):
            for router in self._grid.routers if routers else ():
                router.generator = routers[router.weight.device]
            return self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]

    def _router_generators(self, seed: int) -> dict[torch.device, torch.Generator] | None:
        """For routers that draw their experts: one seeded source a device and request."""
        devices = {router.weight.device for router in self._grid.routers if router.selection == "sampling"}
        return {device: torch.Generator(device).manual_seed(seed) for device in devices} or None

    def _meta(self, sampling: Sampling | None) -> dict[str, Any]:
        info = asdict(self.info)
        keys = ("model", "base", "adapter_sha256", "quantization", "dtype", "device")
        return {key: info[key] for key in keys} | {
            "sampling": asdict(sampling) if sampling else None,
            "seed": sampling.seed if sampling else None,
            "edit": None,
            "versions": {name: version(name) for name in ("torch", "transformers", "bitsandbytes")}
            | {"python": platform.python_version()},
        }


def _stop_ids(model: nn.Module, tokenizer: Any) -> set[int]:
    """All tokens that end a turn: chat models differ in where they say so."""
    config: Any = getattr(model, "generation_config", None)
    eos = getattr(config, "eos_token_id", None)
    ids = set(eos if isinstance(eos, list) else [eos]) | {tokenizer.eos_token_id}
    vocabulary = tokenizer.get_vocab()
    return (ids | {vocabulary[name] for name in _STOP_TOKENS if name in vocabulary}) - {None}
