from __future__ import annotations

import random

import pytest

from molora.tasks import Item, Split
from molora.tasks.overlap import Overlap, concepts_across, kept, overlaps, without_overlaps

WORDS = [f"word{number}" for number in range(2000)]


def text(seed: int, count: int = 30) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=count))


def test_equal_concepts_and_prompts_are_found_whatever_their_capitals_and_punctuation() -> None:
    split = Split(
        [Item("Is it?", "yes", concept="Crohn's disease"), Item("What, then?", "that"), Item("Other?", "no")],
        [Item("what then", "this"), Item("x", "y", concept="crohn's  DISEASE")],
    )
    assert overlaps(split) == [Overlap("concept", 0, 1, 1.0), Overlap("prompt", 1, 0, 1.0)]
    assert kept(split) == [2]
    assert without_overlaps(split) == Split(split.train[2:], split.test)


def test_items_without_a_concept_share_none() -> None:
    assert overlaps(Split([Item("a", "x")], [Item("b", "x")])) == []


@pytest.mark.parametrize(("changed", "found"), [(1, True), (12, True), (22, False), (30, False)])
def test_near_duplicates_share_half_of_the_shorter_text(changed: int, found: bool) -> None:
    copy = " ".join([*text(99, changed).split(), *text(1).split()[changed:]])
    split = Split(
        [Item(text(2), "yes"), Item(f"{copy} {text(3, 60)}", "yes")], [Item(text(4), "no"), Item(text(1), "no")]
    )
    assert [(overlap.kind, overlap.train, overlap.test) for overlap in overlaps(split)] == (
        [("near-duplicate", 1, 1)] if found else []
    )


def test_words_of_the_task_itself_are_no_copies() -> None:
    ask = "Which of the following sections of a clinical note would this dialogue belong to, in your own opinion?"
    split = Split([Item(f"{ask} {text(n, 9)}", "a") for n in range(9)], [Item(f"{ask} {text(50, 9)}", "a")])
    assert overlaps(split) == []
    assert overlaps(Split(split.train[:2], split.test)) == []
    mixed = Split([*split.train[:2], Item(text(60), "a")], split.test)
    assert [overlap.train for overlap in overlaps(mixed)] == [0, 1], "two of three do not show what is the task's"


def test_short_texts_are_never_near_duplicates() -> None:
    name = "a b c d e f g h i"  # five shingles
    assert overlaps(Split([Item(f"{name} one", "x")], [Item(f"{name} two", "x")])) == []


def test_what_stays_has_no_overlap_even_after_phrases_became_rare() -> None:
    stock, own = text(1, 20), text(2, 20)
    test = [Item(stock, "a"), Item(own, "b")]
    copies = [Item(f"{stock} {own} {n}", "a") for n in range(3)]  # go for `own`; then `stock` is in five items only
    train = [*copies, *(Item(f"{stock} {text(10 + n, 4)}", "a") for n in range(5)), Item(text(30), "c")]
    assert len(overlaps(Split(train, test))) == 3
    clean = without_overlaps(Split(train, test))
    assert clean == Split([train[-1]], test)
    assert overlaps(clean) == []


def test_concepts_are_compared_across_the_tasks_of_a_source() -> None:
    one = Split([Item("a", "x", concept="Asthma")], [Item("b", "x", concept="gout")])
    other = Split([Item("c", "x", concept="Gout"), Item("d", "x")], [Item("e", "x")])
    assert concepts_across([one]) == []
    assert concepts_across([one, other]) == ["Gout"]
