from __future__ import annotations

import random

from molora.tasks.draw import capped, options, thinned
from molora.tasks.near import alike, families, plain, words
from molora.tasks.prose import base_name, shorten
from molora.tasks.task import Item


def test_plain_forgets_order_number_grade_and_side_alone() -> None:
    assert plain("Abnormality of the left kidneys, type II") == plain("kidney abnormality, right")
    assert plain("Renal cyst") != plain("Hepatic cyst")
    assert plain("Type 2") == "type 2", "a name of nothing else stays itself"
    assert words("Herpes viruses, stenosis 12") == {"herpe", "viruse", "stenosis"}


def test_alike_finds_what_comparing_all_pairs_finds() -> None:
    rng = random.Random(0)
    texts = [frozenset(rng.choices("abcdefghij", k=rng.randrange(9))) for _ in range(150)]
    for least in (0.5, 0.6, 0.7, 0.9, 1.0):
        pairs = [
            (one, other)
            for other in range(len(texts))
            for one in range(other)
            if texts[one] and len(texts[one] & texts[other]) >= least * len(texts[one] | texts[other])
        ]
        assert sorted(alike(texts, least)) == sorted(pairs)


def test_families_go_by_name_and_by_text_and_by_way_of_others() -> None:
    names = ["Ataxia 1", "Ataxia, type 2", "Deafness", "Blindness", "Gout"]
    texts = ["a b", "c d", "red eyes hurt badly", "red eyes hurt badly", "big toe"]
    assert families(names) == ["Ataxia 1", "Ataxia 1", "Deafness", "Blindness", "Gout"]
    assert families(names, texts) == ["Ataxia 1", "Ataxia 1", "Deafness", "Deafness", "Gout"]
    chain = ["one two three four", "two three four five", "three four five six"]
    assert families(chain, least=0.6) == [chain[0]] * 3, "the first and the last only by way of the second"


def test_options_hold_the_answer_once_and_depend_on_the_key_alone() -> None:
    others = ["B", "a", "C", "C", "D", "E"]
    drawn = {options("A", others, f"key {number}") for number in range(50)}
    assert all(len(set(choices)) == 4 and choices.count("A") == 1 and "a" not in choices for choices in drawn)
    assert len({choices.index("A") for choices in drawn}) == 4, "the answer stands anywhere"
    assert options("A", others, "key 1") == options("A", others, "key 1")
    assert sorted(options("A", ["B"], "key")) == ["A", "B"]


def test_caps_keep_order_and_first_items() -> None:
    items = [Item(f"{number}", "x", concept=str(number // 3)) for number in range(30)]
    assert [item.prompt for item in thinned(items, 2)][:4] == ["0", "1", "3", "4"]
    kept = capped(items, 7)
    assert len(kept) == 7
    assert kept == [item for item in items if item in kept]
    assert len({item.concept for item in kept}) == 3, "whole concepts first"
    assert capped(items, 99) == items


def test_names_and_prose() -> None:
    assert base_name("Spastic paraplegia 26, autosomal recessive") == "Spastic paraplegia"
    assert base_name("Deafness, autosomal dominant 22") == "Deafness"
    assert base_name("Glycogen storage disease, type IXa") == "Glycogen storage disease"
    assert base_name("Marfan syndrome") == "Marfan syndrome"
    assert shorten("One here. Two there. Three.", 22) == "One here. Two there."
    assert shorten("a long first sentence", 12) == "a long ..."
