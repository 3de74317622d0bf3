"""A plain generator: messages -> Step, Step, ... Knows no user interface and starts no threads."""

from __future__ import annotations

import platform
import threading
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from molora import fast
from molora import reading as passes
from molora.chat import Message, Prompt, encode, encode_chat
from molora.edits import RoutingEdit
from molora.errors import MoloraError
from molora.info import EngineInfo
from molora.reading import Reading
from molora.routers import grid_of
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
    """Tokens of the answer so far, those it was begun with included"""
    finished: Literal["stop", "length"] | None
    """None while it goes on; "stop": the model ended its turn; "length": the limit did"""


class Engine:
    """A loaded model that answers and records. Several answers may be in the making at once; they do not mix."""

    def __init__(self, model: Any, tokenizer: Any, info: EngineInfo) -> None:
        self.model, self.tokenizer, self.info = model, tokenizer, info
        self._grid = grid_of(model)
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
        begun: Sequence[int] = (),
    ) -> Generator[Step]:
        """Answers a conversation; a Step after every forward pass. Closing the generator stops the work.

        Args:
            messages: `{"role", "content"}` dictionaries, the user's question last.
            max_new_tokens: cut to what the model's context has left.
            edit: what to change in the routing; the trace's meta says it.
            begun: the answer's first tokens, which are read under the edit and not sampled; the new ones follow them.

        Raises:
            MoloraError: for messages, settings, an edit or a beginning that cannot be used, before any work.
        """
        sampling = Sampling(max_new_tokens, temperature, top_p, repetition_penalty, seed)
        prompt = encode_chat(self.tokenizer, messages)
        first = self._answer_ids(begun)
        if ends := self._stop_ids.intersection(first):
            raise MoloraError(f"The answer's first tokens hold {min(ends)}, which ends an answer; leave it out.")
        prompt = Prompt(prompt.token_ids + first, prompt.phase + [ANSWER] * len(first))
        limit = self._limit(prompt, max_new_tokens)
        reading = self._reading(len(prompt.token_ids) + limit, seed, edit)
        meta = self._meta(sampling, edit) | ({"begun": len(first)} if first else {})
        return self._stream(reading, prompt, sampling, limit, meta, len(first))

    def answer(self, messages: Sequence[Message], **settings: Any) -> Step:
        """The last Step of `stream(messages, **settings)`."""
        return deque(self.stream(messages, **settings), maxlen=1).pop()

    def warm_up(self) -> None:
        """Does once what the first answer would wait for, such as packing weights: a few tokens are read and dropped.

        Answers may be asked for meanwhile. Compiling, half a minute on the first start ever, holds none of them up.
        """
        if step := fast.lean_step(self.model):
            step.warm_up()
        self.answer([{"role": "user", "content": "Hello"}], max_new_tokens=2)

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
        ids = encode(self.tokenizer, text)
        if not 0 < len(ids) <= self.info.context_length:
            raise MoloraError(f"The text has {len(ids)} tokens; 1 to {self.info.context_length} can be read.")
        reading = self._reading(len(ids), 0, edit)
        with reading.recording():
            deque(reading.prefill(ids, [PROMPT] * len(ids)), maxlen=0)
        return reading.trace(self._meta(None, edit))

    def logprobs(
        self, messages: Sequence[Message], answer_ids: Sequence[int], edit: RoutingEdit | None = None
    ) -> NDArray[np.float32]:
        """How likely each token of a given answer was, given all before it: log-probabilities in nats [A].

        The prompt and the answer are read under the edit, nothing is sampled (teacher forcing), and the vocabulary is
        scored at the answer's tokens alone. Raises MoloraError as `stream` does, and for ids that are no answer.
        """
        prompt, answer = encode_chat(self.tokenizer, messages).token_ids, self._answer_ids(answer_ids)
        if not answer:
            raise MoloraError("The answer has no token to score.")
        ids, first = prompt + answer[:-1], len(prompt) - 1  # the row before a token predicts it; the last needs none
        if len(ids) > self.info.context_length:
            raise MoloraError(f"Prompt and answer have {len(ids)} tokens; {self.info.context_length} can be read.")
        reading = self._reading(len(ids), 0, edit)
        scored: list[torch.Tensor] = []
        with reading.recording():
            for at in range(0, len(ids), passes.PREFILL_CHUNK):
                part = ids[at : at + passes.PREFILL_CHUNK]
                kept = min(len(part), at + len(part) - first)
                blank, phase = [""] * len(part), [PROMPT] * len(part)
                logits = reading.read_among(part, blank, phase, kept=max(kept, 1)).float()  # [kept, V]
                if kept > 0:
                    end = at + len(part) - first
                    targets = torch.tensor(answer[end - kept : end], device=logits.device)[:, None]  # [kept, 1]
                    scored.append((logits.gather(1, targets)[:, 0] - logits.logsumexp(-1)).cpu())  # [kept]
        return torch.cat(scored).numpy()

    def _answer_ids(self, ids: Sequence[int]) -> list[int]:
        """Raises MoloraError for what is no token of the model."""
        known = self.model.get_input_embeddings().num_embeddings
        if wrong := [token for token in ids if not 0 <= int(token) < known]:
            raise MoloraError(f"The answer holds the token {wrong[0]}; the model knows 0 to {known - 1}.")
        return [int(token) for token in ids]

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
        self, reading: Reading, prompt: Prompt, sampling: Sampling, limit: int, meta: dict[str, Any], begun: int
    ) -> Generator[Step]:
        """`begun`: how many of the prompt's last tokens are the answer's first."""
        special = set(self.tokenizer.all_special_ids)
        ids = torch.tensor([prompt.token_ids], device=self._device)  # [1, T]
        sampler = Sampler(sampling, self._device)
        with reading.recording():
            chunks = reading.prefill(*prompt)
            logits = next(chunks)
            for later in chunks:
                yield Step("", reading.trace(meta), 0, None)
                logits = later
            pieces = reading.trace(meta).token_text[len(prompt.token_ids) - begun :]
            first = prompt.token_ids[len(prompt.token_ids) - begun :]
            text = "".join(piece for token, piece in zip(first, pieces, strict=True) if token not in special)
            for count in range(begun + 1, begun + limit + 1):
                token = sampler.draw(ids, logits)  # [1, 1]
                token_id = int(token)
                if token_id in self._stop_ids:
                    yield Step(text, reading.trace(meta), count, "stop")
                    return
                piece = reading.text.push(token_id)
                text += "" if token_id in special else piece
                yield Step(text, reading.trace(meta), count, "length" if count == begun + limit else None)
                if count < begun + limit:
                    ids = torch.cat([ids, token], dim=1)  # [1, T+1]
                    logits = reading.read([token_id], [piece], [ANSWER])

    def _meta(self, sampling: Sampling | None, edit: RoutingEdit | None) -> dict[str, Any]:
        info = asdict(self.info)
        keys = ("model", "base", "adapter_sha256", "quantization", "dtype", "device")
        return {key: info[key] for key in keys} | {
            "precision": self.info.precision,
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
