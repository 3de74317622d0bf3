"""Several conversations in the same passes: their tokens lie side by side in one sequence, and a mask keeps them apart.

Routers and recorder see one sequence, as ever, and nothing is padded. Axes: N tokens of one pass, S tokens read so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from molora.chat import Prompt
from molora.fast import Among
from molora.reading import Reading
from molora.sampler import Sampler
from molora.text import TokenText
from molora.trace import ANSWER, RoutingTrace


def sees_all(config: Any) -> bool:
    """Whether every layer attends to all of the past: our mask stands in for the model's, sliding windows included."""
    text = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    return kinds == {"full_attention"} and getattr(text, "sliding_window", None) is None


class Answer(NamedTuple):
    """One conversation's end, in the order of `Step`."""

    text: str
    trace: RoutingTrace
    num_tokens: int
    finished: Literal["stop", "length"]


class _Token(NamedTuple):
    """One token of a pass, and whose it is."""

    id: int
    text: str
    phase: int
    owner: int
    position: int


class Together:
    """Reads and answers conversations at once; `reading` must have room for all their tokens."""

    def __init__(self, reading: Reading, model: Any, tokenizer: Any, stop_ids: set[int]) -> None:
        self._reading, self._tokenizer, self._stop_ids = reading, tokenizer, stop_ids
        self._device = model.get_input_embeddings().weight.device
        self._owner = torch.empty(0, dtype=torch.long, device=self._device)  # [S]
        self._position = torch.empty(0, dtype=torch.long, device=self._device)  # [S]

    def answers(
        self, prompts: Sequence[Prompt], samplers: Sequence[Sampler], limits: Sequence[int], meta: dict[str, Any]
    ) -> list[Answer]:
        """One Answer for each prompt, of at most its limit of new tokens."""
        special = set(self._tokenizer.all_special_ids)
        pieces = [TokenText(self._tokenizer) for _ in prompts]
        read = [torch.tensor([prompt.token_ids], device=self._device) for prompt in prompts]  # each [1, T]
        said, counts = [""] * len(prompts), [0] * len(prompts)
        ends: list[Literal["stop", "length"]] = ["length"] * len(prompts)
        with self._reading.recording():
            logits = self._prefill(prompts, pieces)  # [A, V], A conversations that still go on
            going = list(range(len(prompts)))
            while going:
                new: list[_Token] = []
                for row, owner in enumerate(going):
                    token = samplers[owner].draw(read[owner], logits[row : row + 1])  # [1, 1]
                    token_id, counts[owner] = int(token), counts[owner] + 1
                    if token_id in self._stop_ids:
                        ends[owner] = "stop"
                        continue
                    piece = pieces[owner].push(token_id)
                    said[owner] += "" if token_id in special else piece
                    if counts[owner] < limits[owner]:
                        new.append(_Token(token_id, piece, ANSWER, owner, read[owner].shape[1]))
                        read[owner] = torch.cat([read[owner], token], dim=1)
                going = [token.owner for token in new]
                logits = self._passes(new, range(len(new)))
        whole, owners = self._reading.trace(meta), self._owner.cpu().numpy()
        traces = [whole.select(tokens=owners == owner) for owner in range(len(prompts))]
        return [Answer(*parts) for parts in zip(said, traces, counts, ends, strict=True)]

    def _prefill(self, prompts: Sequence[Prompt], pieces: Sequence[TokenText]) -> Tensor:
        """Logits [B, V] after each prompt."""
        tokens: list[_Token] = []
        last = []
        for owner, prompt in enumerate(prompts):
            texts = pieces[owner].pieces(prompt.token_ids)
            owners = [owner] * len(texts)
            tokens += map(_Token, prompt.token_ids, texts, prompt.phase, owners, range(len(texts)))
            last.append(len(tokens) - 1)
        return self._passes(tokens, last)

    def _passes(self, tokens: Sequence[_Token], kept: Sequence[int]) -> Tensor:
        """Reads the tokens by chunks; the logits [len(kept), V] after those at `kept`, which ascend."""
        logits = []
        for at in range(0, len(tokens), self._reading.chunk):
            part = tokens[at : at + self._reading.chunk]
            here = [place - at for place in kept if at <= place < at + len(part)]
            logits.append(self._pass(part, here))
        return torch.cat(logits) if logits else torch.empty(0, device=self._device)

    def _pass(self, tokens: Sequence[_Token], kept: Sequence[int]) -> Tensor:
        owner = torch.tensor([token.owner for token in tokens], device=self._device)  # [N]
        position = torch.tensor([token.position for token in tokens], device=self._device)  # [N]
        self._owner, self._position = torch.cat([self._owner, owner]), torch.cat([self._position, position])
        return self._reading.read_among(
            [token.id for token in tokens],
            [token.text for token in tokens],
            [token.phase for token in tokens],
            kept,
            kept=torch.tensor(kept, dtype=torch.long, device=self._device),
            among=Among.last(len(tokens), self._owner, self._position),
        )
