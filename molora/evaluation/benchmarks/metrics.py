"""Scores of benchmarks as pure functions of (gold, predicted) pairs, one pair a question; no harness, no torch.

What ends in `_reference` repeats the arithmetic of PromptCBLUE's evaluator, oddities included; see README.md here.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Hashable, Sequence, Set

Labels = Sequence[tuple[str, str]]
"""(gold label, predicted label) of each question"""
Sets = Sequence[tuple[Set[Hashable], Set[Hashable]]]
"""(gold set, predicted set) of each question"""


def mean(scores: Sequence[float]) -> float:
    return sum(scores) / len(scores) if scores else 0.0


def set_f1(pairs: Sets) -> float:
    """Micro F1: hits, misses and inventions are counted over all questions. 0 where nothing was hit."""
    hits = sum(len(gold & predicted) for gold, predicted in pairs)
    total = sum(len(gold) + len(predicted) for gold, predicted in pairs)
    return 2 * hits / total if hits else 0.0


def macro_f1(pairs: Labels) -> float:
    """Mean of F1 over the labels that some gold answer has. An answer that is no label is a miss of its gold label."""
    scores = _f1_by_label(pairs)
    return mean([scores[label] for label in sorted({gold for gold, _ in pairs})])


def macro_f1_reference(pairs: Labels) -> float:
    """The same over all labels in gold or predicted answers: each invented answer adds a label with F1 0."""
    return mean(list(_f1_by_label(pairs).values()))


def micro_f1(pairs: Labels) -> float:
    """With one label a question a wrong answer is one miss and one invention: micro F1 is accuracy."""
    return mean([float(gold == predicted) for gold, predicted in pairs])


def weighted_f1(pairs: Labels) -> float:
    """Mean of F1 over labels, weighted by how many gold answers have each. The reference calls it micro F1."""
    support = Counter(gold for gold, _ in pairs)
    scores = _f1_by_label(pairs)
    return sum(scores[label] * count for label, count in support.items()) / len(pairs) if pairs else 0.0


def rouge_l(gold: str, predicted: str) -> float:
    """F1 of the longest common subsequence of characters, white space left out. Two empty texts agree: 1."""
    a, b = "".join(gold.split()), "".join(predicted.split())
    return 2 * lcs_length(a, b) / (len(a) + len(b)) if a or b else 1.0


def rouge_l_reference(gold: str, predicted: str) -> float:
    """The same on BERT's basic tokens, as rouge_chinese 1.0.3 counts it. An empty text is read as "无。"."""
    a, b = (basic_tokens(text) or ["无", "。"] for text in (gold, predicted))
    common = lcs_length(a, b)
    precision, recall = common / len(b), common / len(a)
    return 2 * precision * recall / (precision + recall + 1e-8)


def lcs_length(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence, all of `a` at once as bits of one number (Hyyrö 2004)."""
    where: dict[Hashable, int] = {}
    for index, item in enumerate(a):
        where[item] = where.get(item, 0) | 1 << index
    free = full = (1 << len(a)) - 1
    for item in b:
        hits = free & where.get(item, 0)
        free = ((free + hits) | (free - hits)) & full
    return len(a) - free.bit_count()


def basic_tokens(text: str) -> list[str]:
    """Each Chinese character and punctuation mark alone, other words whole, in lower case and without accents."""
    plain = "".join(char for char in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(char) != "Mn")
    return "".join(f" {char} " if _stands_alone(char) else char for char in plain).split()


def _stands_alone(char: str) -> bool:
    ascii_symbol = char.isascii() and char.isprintable() and not char.isalnum()
    return ascii_symbol or unicodedata.category(char).startswith("P") or "CJK" in unicodedata.name(char, "")


def _f1_by_label(pairs: Labels) -> dict[str, float]:
    golds, predictions = Counter(gold for gold, _ in pairs), Counter(predicted for _, predicted in pairs)
    hits = Counter(gold for gold, predicted in pairs if gold == predicted)
    return {label: 2 * hits[label] / (golds[label] + predictions[label]) for label in sorted({*golds, *predictions})}
