"""NCBI disease corpus: list the diseases that a sentence of a PubMed abstract mentions."""

from __future__ import annotations

import re
from pathlib import Path

from molora.tasks.task import Item, Split, Task

_ASK = (
    "List the diseases named in this sentence, in its own words and order, each once, with semicolons between them. "
    'If it names none, answer "none".'
)


def _build(data: Path) -> Split:
    folder = data / "ncbi-disease"
    return Split(_items(folder / "train.tsv"), _items(folder / "test.tsv"))


def _items(path: Path) -> list[Item]:
    items = []
    for block in path.read_text(encoding="utf-8").strip().split("\n\n"):
        rows = [line.split("\t") for line in block.splitlines()]
        mentions: list[list[str]] = []
        for token, tag in rows:
            if tag.startswith("B"):
                mentions.append([token])
            elif tag.startswith("I") and mentions:
                mentions[-1].append(token)
        names = list(dict.fromkeys(_join(mention) for mention in mentions))
        sentence = _join([token for token, _ in rows])
        items.append(Item(f"{_ASK}\n\n{sentence}", "; ".join(names) or "none"))
    return items


def _join(tokens: list[str]) -> str:
    """Tokens as prose: no space before punctuation, none around hyphens and slashes."""
    text = re.sub(r" ([.,;:%)\]])", r"\1", " ".join(tokens))
    return re.sub(r"([(\[]) ", r"\1", re.sub(r" ([-/]) ", r"\1", text))


TASK = Task(
    name="ncbi_disease",
    family="extraction",
    source="the GitHub repository spyysalo/ncbi-disease (conll/*.tsv, below ncbi-disease/)",
    licence="US government work, public domain",
    files=("ncbi-disease/train.tsv", "ncbi-disease/test.tsv"),
    build=_build,
)
