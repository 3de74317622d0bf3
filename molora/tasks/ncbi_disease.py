"""NCBI disease corpus: list the diseases that a sentence of a PubMed abstract mentions."""

from __future__ import annotations

import re
from importlib.resources.abc import Traversable

from molora.tasks.sources import Folder
from molora.tasks.task import Item, Split, Task

_ASK = (
    "List the diseases named in this sentence, in its own words and order, each once, with semicolons between them. "
    'If it names none, answer "none".'
)


def _build(folder: Traversable) -> Split:
    return Split(_items(folder / "train.tsv"), _items(folder / "test.tsv"))


def _items(path: Traversable) -> list[Item]:
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


_SOURCE = Folder(
    name="NCBI disease corpus",
    licence="US government work, public domain",
    where="Get conll/train.tsv and test.tsv from the GitHub repository spyysalo/ncbi-disease, into ncbi-disease/.",
    folder="ncbi-disease",
    files=("train.tsv", "test.tsv"),
)

TASKS = (
    Task(
        name="ncbi_disease",
        family="extraction",
        metric="set_f1",
        sources=(_SOURCE,),
        build=_build,
        human=True,
    ),
)
