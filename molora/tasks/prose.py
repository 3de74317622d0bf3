"""Small mends of names and prose that tasks of several sources share."""

from __future__ import annotations

import re

_SENTENCE = re.compile(r"(?<=[.;]) +(?=[A-Z])")
_NUMBER = re.compile(r"(?:,? (?:type )?(?:\d+[A-Za-z]{0,2}\d?|[IVX]+[A-Za-z]?))+$")
INHERITANCE = r"(?:autosomal|X-linked)(?:[ -](?:dominant|recessive|semi-?dominant))?"
_INHERITED = re.compile(rf",? ?\b{INHERITANCE}\b(?: \d+[A-Z]?)?,?", re.IGNORECASE)


def base_name(disease: str) -> str:
    """A disease's name without its inheritance and the number of its type."""
    return _NUMBER.sub("", _INHERITED.sub("", disease)).strip(" ,")


def sentences(text: str) -> list[str]:
    return _SENTENCE.split(text)


def shorten(text: str, characters: int) -> str:
    """The whole sentences that fit; a first sentence that does not is cut after a word."""
    kept = ""
    for sentence in sentences(text):
        if kept and len(kept) + len(sentence) >= characters:
            break
        kept = f"{kept} {sentence}".strip()
    return kept if len(kept) <= characters else kept[:characters].rsplit(" ", 1)[0] + " ..."
