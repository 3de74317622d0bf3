"""A plain generator: messages -> Step, Step, ... Knows no user interface and starts no threads."""

from __future__ import annotations

import platform
import threading
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from molora.chat import Message, Prompt, encode_chat
from molora.edits import RoutingEdit
from molora.errors import MoloraError
from molora.grid import RouterGrid
from molora.info import EngineInfo
from molora.reading import Reading
from molora.sampler import Sampler
from molora.sampling import Sampling
from molora.together import Together, sees_all
from molora.trace import ANSWER, PROMPT, RoutingTrace

__all__ = ["Engine", "EngineInfo", "Step", "stop_ids"]

_STOP_TOKENS = ("<|im_end|>", "<|endoftext|>")


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
        self._stop_ids = stop_ids(model, tokenizer)
        self._draws = any(router.selection == "sampling" for router in self._grid.routers)

    def stream(
        self,
        messages: Sequence[Message],
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        repetition_penalty: float = 1.0,
        seed: int = 0,
        edit: RoutingEdit | None = None,
    ) -> Generator[Step]:
        """Answers a conversation; a Step after every forward pass. Closing the generator stops the work.

        Args:
            messages: `{"role", "content"}` dictionaries, the user's question last.
            max_new_tokens: cut to what the model's context has left.
            edit: what to change in the routing; the trace's meta says it.

        Raises:
            MoloraError: for messages, settings or an edit that cannot be used, before any work.
        """
        sampling = Sampling(max_new_tokens, temperature, top_p, repetition_penalty, seed)
        prompt = encode_chat(self.tokenizer, messages)
        limit = self._limit(prompt, max_new_tokens)
        reading = self._reading(len(prompt.token_ids) + limit, seed, edit)
        return self._stream(reading, prompt, sampling, limit, self._meta(sampling, edit))

    def answer(self, messages: Sequence[Message], **settings: Any) -> Step:
        """The last Step of `stream(messages, **settings)`."""
        return deque(self.stream(messages, **settings), maxlen=1).pop()

    def answers(self, conversations: Sequence[Sequence[Message]], **settings: Any) -> list[Step]:
        """`answer` for each conversation, all in the same passes: faster, and the same but for rounding.

        One by one answer models that draw their experts at random, so that the draws do not depend on the company, and
        those without a cache or with layers that do not see all of the past.
        Raises MoloraError as `stream` does, naming which conversation it was.
        """
        sampling, edit = Sampling(**{k: v for k, v in settings.items() if k != "edit"}), settings.get("edit")
        prompts, limits = [], []
        for number, messages in enumerate(conversations):
            try:
                prompt = encode_chat(self.tokenizer, messages)
                limits.append(self._limit(prompt, sampling.max_new_tokens))
            except MoloraError as error:
                raise MoloraError(f"Conversation {number}: {error}") from error
            prompts.append(prompt)
        if not self._grid.uses_cache or self._draws or not sees_all(self.model.config):
            return [self.answer(messages, **settings) for messages in conversations]
        reading = self._reading(sum(len(p.token_ids) for p in prompts) + sum(limits), sampling.seed, edit)
        samplers = [Sampler(sampling, self._device) for _ in prompts]
        together = Together(reading, self.model, self.tokenizer, self._stop_ids)
        return [Step(*answer) for answer in together.answers(prompts, samplers, limits, self._meta(sampling, edit))]

    def trace_text(self, text: str, edit: RoutingEdit | None = None) -> RoutingTrace:
        """The routing of any text, read as it is, without chat template and without an answer.

        Raises MoloraError if the text is empty or longer than the model's context, or the edit cannot be used.
        """
        ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        if not 0 < len(ids) <= self.info.context_length:
            raise MoloraError(f"The text has {len(ids)} tokens; 1 to {self.info.context_length} can be read.")
        reading = self._reading(len(ids), 0, edit)
        with reading.recording():
            deque(reading.prefill(ids, [PROMPT] * len(ids)), maxlen=0)
        return reading.trace(self._meta(None, edit))

    def _limit(self, prompt: Prompt, max_new_tokens: int) -> int:
        """Tokens the answer may have. Raises MoloraError if the prompt leaves no room for any."""
        room = self.info.context_length - len(prompt.token_ids)
        if room < 1:
            raise MoloraError(
                f"The conversation has {len(prompt.token_ids)} tokens; the model reads at most "
                f"{self.info.context_length}, its answer included. Shorten it or start a new one."
            )
        return min(max_new_tokens, room)

    def _reading(self, capacity: int, seed: int, edit: RoutingEdit | None) -> Reading:
        return Reading(self.model, self.tokenizer, self._grid, self._pass, capacity, seed, edit)

    def _stream(
        self, reading: Reading, prompt: Prompt, sampling: Sampling, limit: int, meta: dict[str, Any]
    ) -> Generator[Step]:
        special = set(self.tokenizer.all_special_ids)
        ids = torch.tensor([prompt.token_ids], device=self._device)  # [1, T]
        sampler = Sampler(sampling, self._device)
        text = ""
        with reading.recording():
            chunks = reading.prefill(*prompt)
            logits = next(chunks)
            for later in chunks:
                yield Step("", reading.trace(meta), 0, None)
                logits = later
            for count in range(1, limit + 1):
                token = sampler.draw(ids, logits)  # [1, 1]
                token_id = int(token)
                if token_id in self._stop_ids:
                    yield Step(text, reading.trace(meta), count, "stop")
                    return
                piece = reading.text.push(token_id)
                text += "" if token_id in special else piece
                yield Step(text, reading.trace(meta), count, "length" if count == limit else None)
                if count < limit:
                    ids = torch.cat([ids, token], dim=1)  # [1, T+1]
                    logits = reading.read([token_id], [piece], [ANSWER])

    def _meta(self, sampling: Sampling | None, edit: RoutingEdit | None) -> dict[str, Any]:
        info = asdict(self.info)
        keys = ("model", "base", "adapter_sha256", "quantization", "dtype", "device")
        return {key: info[key] for key in keys} | {
            "sampling": asdict(sampling) if sampling else None,
            "seed": sampling.seed if sampling else None,
            "edit": edit.to_dict() if edit else None,
            "versions": {name: version(name) for name in ("torch", "transformers", "bitsandbytes")}
            | {"python": platform.python_version()},
        }


def stop_ids(model: nn.Module, tokenizer: Any) -> set[int]:
    """All tokens that end a turn: chat models differ in where they say so."""
    config: Any = getattr(model, "generation_config", None)
    eos = getattr(config, "eos_token_id", None)
    ids = set(eos if isinstance(eos, list) else [eos]) | {tokenizer.eos_token_id}
    vocabulary = tokenizer.get_vocab()
    return (ids | {vocabulary[name] for name in _STOP_TOKENS if name in vocabulary}) - {None}
