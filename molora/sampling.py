"""How an answer is drawn. Without torch, so that the page can check a request before the model is there."""

from __future__ import annotations

from dataclasses import dataclass

from molora.errors import MoloraError


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn; raises MoloraError for a value out of range."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    """0 takes the likeliest token."""
    top_p: float = 1.0
    """Draws among the likeliest tokens that together have this probability."""
    repetition_penalty: float = 1.0
    """Divides the score of what was read already; 1 leaves it (CTRL, arXiv 1909.05858)."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("max_new_tokens", 1, 1_000_000),
            ("temperature", 0.0, 100.0),
            ("top_p", 0.0, 1.0),
            ("repetition_penalty", 0.01, 100.0),
            ("seed", 0, 2**63 - 1),
        ):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not low <= value <= high:
                raise MoloraError(f"{name} is {value!r}; it must lie between {low} and {high}.")
