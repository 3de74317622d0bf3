"""Which names mean one disease, as far as a split must know: spellings, numbered types, names of one UMLS concept."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

_SHARED = 2
"""A UMLS concept with more base names than this is a feature of many diseases ("short stature"), not one disease."""


def base_name(name: str) -> str:
    """Without spelling, numbered type, age group or what stands in brackets.

    "Usher syndrome, type 1B" -> "usher syndrome".
    """
    text = re.sub(r"\([^)]*\)", " ", name.lower())
    text = " ".join(re.findall(r"\w+", re.sub(r"['’]s\b", "", text)))
    text = re.sub(r"^(?:(?:childhood|adult|parasites) )+", "", text)
    text = re.sub(r" (?:types?|group) .*$", "", text)
    text = re.sub(r"(?: (?:\d+[a-z]?|[ivx]+|[a-z]))+$", "", text)
    return " ".join(map(_singular, text.split())) or name.lower()


def one_disease(codes_of: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Name with its UMLS codes -> the shortest of all base names that are the same disease."""
    sharing: dict[str, set[str]] = defaultdict(set)
    first = {base_name(name): base_name(name) for name in codes_of}

    def find(base: str) -> str:
        while first[base] != base:
            base = first[base]
        return base

    for name, codes in codes_of.items():
        for code in codes:
            sharing[code].add(base_name(name))
    for bases in sharing.values():
        if len(bases) <= _SHARED:
            roots = sorted(map(find, bases), key=lambda base: (len(base), base))
            for root in roots:
                first[root] = roots[0]
    return {name: find(base_name(name)) for name in codes_of}


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 4 and word.endswith("s") and not word.endswith(("ss", "is", "us")) else word
