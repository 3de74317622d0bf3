"""What a model says on a task's items: the likeliest of an item's choices, or a free answer decoded greedily.

Batches change how fast it goes, never what is said: shorter prompts are padded at the left and masked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import DynamicCache, GenerationConfig

from molora.chat import encode, encode_chat
from molora.engine import stop_ids
from molora.reading import cache_argument
from molora.tasks import Item, Task


class System(Protocol):
    """One of the models that are compared."""

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> Any:
        """A causal language model of transformers, wrapped or not"""

    @property
    def tokenizer(self) -> Any: ...

    def on(self, task: str) -> AbstractContextManager[None]:
        """Held while the system works on a task: what it has to know of the task is set there, and taken back."""


def predict(system: System, task: Task, items: Sequence[Item], batch_size: int = 16) -> list[str]:
    """One answer for each item, in their order; `batch_size` is of prompts that are answered freely.

    A choice is the one of the highest log-likelihood: the sum over its tokens and the token that ends the turn, given
    the prompt. A free answer has at most `task.answer_tokens` tokens, and blanks around it are dropped.
    """
    model, tokenizer = system.model.eval(), system.tokenizer
    prompts = [encode_chat(tokenizer, [{"role": "user", "content": item.prompt}]).token_ids for item in items]
    free = [at for at, item in enumerate(items) if not item.choices]
    said = dict.fromkeys(range(len(items)), "")
    progress = tqdm(total=len(items), desc=f"{system.name}, {task.name}", unit="item", leave=False)
    with torch.inference_mode(), system.on(task.name), progress:
        for at, item in enumerate(items):
            if item.choices:
                scores = choice_scores(model, tokenizer, prompts[at], item.choices)
                said[at] = item.choices[int(scores.argmax())]
                progress.update()
        for batch in _batches(free, [len(prompt) for prompt in prompts], batch_size):
            answers = free_answers(model, tokenizer, [prompts[at] for at in batch], task.answer_tokens)
            said.update(zip(batch, answers, strict=True))
            progress.update(len(batch))
    return list(said.values())


def choice_scores(model: Any, tokenizer: Any, prompt: Sequence[int], choices: Sequence[str]) -> Tensor:
    """Log-likelihood of each choice with the end of its turn, in nats [O].

    The prompt is read once; its cache is repeated over the choices, which are padded at the right, where nothing that
    counts can see the padding. The vocabulary is scored at the tokens that count alone.
    """
    body, head = model.model, model.lm_head
    device = model.get_input_embeddings().weight.device
    options = [encode(tokenizer, text) for text in choices]
    width = max(map(len, options))
    cache = DynamicCache(config=model.config)
    cached = {cache_argument(body.__class__): cache, "use_cache": True}
    hidden = body(torch.tensor([prompt], device=device), **cached)[0][:, -1:]  # [1, 1, H]
    cache.batch_repeat_interleave(len(options))
    tokens = torch.tensor([ids + [0] * (width - len(ids)) for ids in options], device=device)  # [O, W]
    hidden = torch.cat([hidden.expand(len(options), -1, -1), body(tokens, **cached)[0]], dim=1)  # [O, 1 + W, H]
    lengths = torch.tensor([[len(ids)] for ids in options], device=device)  # [O, 1]
    scored = torch.arange(width + 1, device=device) <= lengths  # [O, 1 + W]
    target = torch.cat([tokens, tokens[:, :1]], dim=1).scatter(1, lengths, tokenizer.eos_token_id)  # [O, 1 + W]
    log_p = head(hidden[scored]).float().log_softmax(-1)  # [N, V]
    chosen = log_p.gather(-1, target[scored].unsqueeze(-1)).squeeze(-1)  # [N]
    return torch.zeros(scored.shape, device=device).masked_scatter(scored, chosen).sum(-1)


def free_answers(model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[str]:
    """Greedy answers to one batch of prompts, each up to the end of its turn."""
    device = model.get_input_embeddings().weight.device
    stops = sorted(stop_ids(model, tokenizer))
    width = max(map(len, prompts))
    pads = [width - len(prompt) for prompt in prompts]
    ids = torch.tensor([[stops[0]] * pad + list(prompt) for pad, prompt in zip(pads, prompts, strict=True)])  # [B, T]
    mask = torch.arange(width) >= torch.tensor(pads)[:, None]  # [B, T]
    greedy = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,  # the base's own generation config may hold another
        eos_token_id=stops,
        pad_token_id=stops[0],
    )
    written = model.generate(ids.to(device), attention_mask=mask.long().to(device), generation_config=greedy)
    return [
        tokenizer.decode(_until(row, stops), skip_special_tokens=True).strip() for row in written[:, width:].tolist()
    ]


def _until(ids: Sequence[int], stops: Sequence[int]) -> list[int]:
    end = next((at for at, token in enumerate(ids) if token in stops), len(ids))
    return list(ids[:end])


def _batches(positions: Sequence[int], lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """The longest first, so that a batch pads little and one that is too large fails at once."""
    ordered = sorted(positions, key=lambda at: -lengths[at])
    yield from (ordered[start : start + size] for start in range(0, len(ordered), size))
