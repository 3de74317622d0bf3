"""The page's words in the reader's language: English, or Chinese inside `with speaking("zh"):`, in notebooks too.

The catalogue is keyed by the English literal: JSON needs no step that compiles it, as gettext's would.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Literal

Language = Literal["en", "zh"]

CATALOGUE = Path(__file__).parent.parent / "assets" / "words" / "zh.json"

_language: ContextVar[Language] = ContextVar("language", default="en")


@contextmanager
def speaking(language: Language) -> Iterator[None]:
    """What is drawn inside is in this language. Not for a generator's whole life: its steps run in other contexts."""
    before = _language.set(language)
    try:
        yield
    finally:
        _language.reset(before)


def spoken() -> Language:
    return _language.get()


def t(literal: str, /, **values: object) -> str:
    """The literal, or its translation if there is one, with `values` in its {places}."""
    text = _chinese().get(literal, literal) if spoken() == "zh" else literal
    return text.format(**values) if values else text


def tn(one: str, many: str, n: int, /, **values: object) -> str:
    """`t` for a number, {n}; Chinese has one form, the translation of `many`."""
    return t(one if n == 1 and spoken() == "en" else many, n=n, **values)


def noted(literal: str) -> str:
    """The literal as it stands, for a table whose entries are given to `t` later."""
    return literal


@lru_cache
def _chinese() -> dict[str, str]:
    words: dict[str, str] = json.loads(CATALOGUE.read_text(encoding="utf-8"))
    return words
