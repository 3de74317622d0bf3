"""The conversation as safe HTML: plain text, escaped, so that nothing a model or a visitor writes can run or load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from viz.language import noted, t

_NAMES = {"user": noted("You"), "assistant": noted("Model"), "note": ""}


def conversation(
    turns: Sequence[tuple[str, ...]], *, writing: bool = False, linked: Mapping[int, str] | None = None
) -> str:
    """HTML of (role, text) or (role, text, mark) turns; roles are user, assistant and note.

    mark: what must be seen beside the name, such as the edit that an answer was made under.

    writing: whether an answer is being written, which the last turn then shows.
    linked: turns whose words are the trace's, and which of it: "question" or "answer"; `data-part` then says so.
    """
    parts = []
    for at, (role, text, *marks) in enumerate(turns):
        last = at == len(turns) - 1
        caret = '<span class="caret" aria-hidden="true"></span>' if writing and last and role == "assistant" else ""
        marked = "".join(f' <span class="mark">{escape(mark)}</span>' for mark in marks if mark)
        who = f'<span class="who">{t(_NAMES[role])}{marked}</span>' if _NAMES[role] else ""
        part = f' data-part="{linked[at]}"' if linked and at in linked else ""
        said = f'<div class="said" dir="auto"{part}>{escape(text)}{caret}</div>'
        parts.append(f'<div class="turn {role}">{who}{said}</div>')
    if writing and turns and turns[-1][0] != "assistant":
        parts.append(f'<div class="turn note"><div class="said">{t("Waiting for the model…")}</div></div>')
    return "".join(parts)


def examples(questions: Sequence[str]) -> str:
    """HTML of one `<button data-q="index">` a question."""
    return "".join(
        f'<button type="button" class="example" data-q="{at}">{escape(text)}</button>'
        for at, text in enumerate(questions)
    )
