"""Two answers as one text: what only the first says is struck out, what only the second says is underlined.

Safe HTML with <del> and <ins>; brackets [- -] and {+ +} say the same without colour, as word diffs do.
"""

from __future__ import annotations

from html import escape

from molora.compare import changed_text
from viz.language import t

MOST_CHARACTERS = 20_000
"""Of each answer; what comes after is left out."""

_TAGS = {"removed": ("del", "[-", "-]"), "added": ("ins", "{+", "+}")}


def text_difference(one: str, other: str) -> str:
    """HTML of the way from the first answer to the second. All text is escaped and bounded."""
    if one == other:
        return f'<p class="same">{t("Both answers say the same.")}</p>{escape(one[:MOST_CHARACTERS])}'
    parts = []
    for kind, text in changed_text(one[:MOST_CHARACTERS], other[:MOST_CHARACTERS]):
        if kind == "same":
            parts.append(escape(text))
        else:
            tag, before, after = _TAGS[kind]
            parts.append(f"<i>{before}</i><{tag}>{escape(text)}</{tag}><i>{after}</i>")
    if max(len(one), len(other)) > MOST_CHARACTERS:
        parts.append(t("… (the first {count:,} characters are compared)", count=MOST_CHARACTERS))
    return "".join(parts)
