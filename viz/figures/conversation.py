"""The conversation as safe HTML: plain text, escaped, so that nothing a model or a visitor writes can run or load."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_NAMES = {"user": "You", "assistant": "Model", "note": ""}


def conversation(turns: Sequence[tuple[str, str]], *, writing: bool = False) -> str:
    """HTML of (role, text) turns; roles are user, assistant and note.

    writing: whether an answer is being written, which the last turn then shows.
    """
    parts = []
    for at, (role, text) in enumerate(turns):
        last = at == len(turns) - 1
        caret = '<span class="caret" aria-hidden="true"></span>' if writing and last and role == "assistant" else ""
        who = f'<span class="who">{_NAMES[role]}</span>' if _NAMES[role] else ""
        parts.append(f'<div class="turn {role}">{who}<div class="said" dir="auto">{escape(text)}{caret}</div></div>')
    if writing and turns and turns[-1][0] != "assistant":
        parts.append('<div class="turn note"><div class="said">Waiting for the model…</div></div>')
    return "".join(parts)


def examples(questions: Sequence[str]) -> str:
    """HTML of one `<button data-q="index">` a question."""
    return "".join(
        f'<button type="button" class="example" data-q="{at}">{escape(text)}</button>'
        for at, text in enumerate(questions)
    )
