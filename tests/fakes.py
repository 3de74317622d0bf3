"""Hand-written stand-ins: a random RoutingTrace, and an engine that says a given text without any model."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from molora.edits import RoutingEdit
from molora.engine import Engine, EngineInfo, Step
from molora.trace import ANSWER, PROMPT, TEMPLATE, RoutingTrace
from viz.coming import Coming

PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


def fake_trace(
    texts: list[str] | int = 40,
    *,
    layers: int = 4,
    projections: tuple[str, ...] = PROJECTIONS,
    experts: int = 8,
    top_k: int = 2,
    template: int = 3,
    prompt: int = 5,
    seed: int = 0,
) -> RoutingTrace:
    """Random routers over `template` tokens of the chat template, `prompt` of the prompt, and the rest of an answer."""
    if isinstance(texts, int):
        texts = [f" w{number}" for number in range(texts)]
    tokens, rng = len(texts), np.random.default_rng(seed)
    logits = rng.normal(size=(tokens, layers, len(projections), experts)).astype(np.float32)
    ids = np.argsort(-logits, axis=-1)[..., :top_k]
    powers = np.exp(np.take_along_axis(logits, ids, axis=-1))
    phase = np.full(tokens, ANSWER, np.uint8)
    phase[: template + prompt] = PROMPT
    phase[:template] = TEMPLATE
    return RoutingTrace(
        token_ids=np.arange(tokens, dtype=np.int32),
        token_text=texts,
        phase=phase,
        router_logits=logits,
        expert_ids=ids.astype(np.int16),
        expert_weights=(powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32),
        layer_indices=np.arange(layers, dtype=np.int16),
        projections=projections,
        meta={"model": "fake"},
    )


def with_candidates(trace: RoutingTrace, texts: dict[int, str]) -> RoutingTrace:
    """The trace with these candidates, id -> text, each half as likely as the one before, where its model speaks."""
    ids, shares = list(texts), [0.5 ** (place + 1) for place in range(len(texts))]
    speaks = trace.phase == ANSWER
    speaks[:-1] |= speaks[1:]
    trace.candidate_ids = np.where(speaks[:, None], np.array(ids), -1).astype(np.int32)
    trace.candidate_probabilities = np.where(speaks[:, None], np.array(shares), 0).astype(np.float32)
    trace.candidate_text = {str(number): text for number, text in texts.items()}
    return trace


INFO = EngineInfo(
    model="fake",
    base="fake-base",
    adapter_sha256="0" * 64,
    quantization="none",
    dtype="float32",
    device="cpu",
    num_experts=8,
    top_k=2,
    num_layers=4,
    is_demo=True,
    reads_chinese=False,
    context_length=2048,
)


@dataclass
class FakeEngine:
    """Answers every question with the same tokens; counts what was asked and whether it was told to stop."""

    answer: list[str] = field(default_factory=lambda: [" It", " depends", "."])
    seconds_a_token: float = 0.0
    error: Exception | None = None
    info: EngineInfo = INFO
    meta: dict[str, Any] = field(default_factory=dict)
    """What its traces tell beside the model"""
    asked: list[Any] = field(default_factory=list)
    edits: list[RoutingEdit | None] = field(default_factory=list)
    """Of each answer and each scoring"""
    seconds_a_score: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)
    closed: int = 0

    def play(
        self, answer: list[str] | None = None, seconds_a_token: float = 0.0, error: Exception | None = None
    ) -> None:
        """A new script, as if nothing had been asked yet."""
        self.answer = [" It", " depends", "."] if answer is None else answer
        self.seconds_a_token, self.error = seconds_a_token, error
        self.asked, self.settings, self.closed, self.edits, self.seconds_a_score = [], {}, 0, [], 0.0

    @property
    def engine(self) -> Engine:
        """Itself, for whatever takes an engine: it has the parts that the page uses."""
        return cast(Engine, self)

    @property
    def coming(self) -> Coming:
        """The same for the page, which it has come to."""
        return Coming.of(self.engine)

    def logprobs(
        self, messages: list[dict[str, str]], answer_ids: Sequence[int], edit: RoutingEdit | None = None
    ) -> NDArray[np.float32]:
        """Each expert that a rule names takes a tenth of its number and one nat from every second token."""
        time.sleep(self.seconds_a_score)
        self.edits.append(edit)
        if self.error:
            raise self.error
        taken = sum(1 + expert / 10 for rule in (edit.rules if edit else ()) for expert in rule.experts or ())
        return (-1 - taken * (np.arange(len(answer_ids)) % 2)).astype(np.float32)

    def stream(
        self,
        messages: list[dict[str, str]],
        max_new_tokens: int = 256,
        edit: RoutingEdit | None = None,
        begun: Sequence[int] = (),
        **settings: Any,
    ) -> Iterator[Step]:
        self.asked.append(messages)
        self.edits.append(edit)
        self.settings = settings | {"max_new_tokens": max_new_tokens} | ({"edit": edit} if edit else {})
        if self.error:
            raise self.error
        question = re.findall(r"\s*\S+|\s+", messages[-1]["content"])
        first = [f" given{token}" for token in begun]
        said = [*first, *self.answer[:max_new_tokens]]
        whole = fake_trace(
            ["<|user|>", *question, "<|end|>", *said],
            layers=self.info.num_layers,
            template=1,
            prompt=len(question) + 1,
            experts=self.info.num_experts,
            projections=self.info.projections,
        )
        whole.phase[len(question) + 1] = TEMPLATE
        whole.meta |= self.meta | ({"edit": edit.to_dict()} if edit else {}) | ({"begun": len(first)} if first else {})
        try:
            for count in range(len(first) + 1, len(said) + 1):
                time.sleep(self.seconds_a_token)
                finished: Literal["stop", "length"] | None = None
                if count == len(said):
                    finished = "length" if len(said) - len(first) < len(self.answer) else "stop"
                rows = slice(0, len(question) + 1 + count)  # the last one said has not been read yet
                yield Step("".join(said[:count]), whole.select(tokens=rows), count, finished)
        finally:
            self.closed += 1
