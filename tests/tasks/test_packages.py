"""All tasks made from pinned wheels, on the real wheels."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from molora.tasks import TASKS
from molora.tasks.labs import TASKS as OWN
from molora.tasks.near import alike, words
from molora.tasks.sources import Package
from tests.wheels import check

if TYPE_CHECKING:
    from molora.tasks import Item, Split

_NAMES = [name for name, task in TASKS.items() if task in OWN or isinstance(task.sources[0], Package)]

_DIGESTS = {
    "uniprot_name": "af2841eeecbff366",
    "uniprot_inheritance": "798ec65f5ca3f13a",
    "hpo_definition": "77900eb41826ace1",
    "hpo_lay": "35442cb24f6ae5d4",
    "hpo_system": "760124e1b9fb794e",
    "hpo_diagnosis": "4c4dcfee341bdabb",
    "icd_chapter": "5bbe0989d9e09eb5",
    "icd_code": "89dc9759fad2794a",
    "icd_chronic": "437fcd82dd2126c1",
    "disease_normalise": "828f303fda553ef9",
    "abbreviation": "08f29111abcfdc62",
    "drug_class": "ddbda0d4a19f124c",
    "lab_flag": "8289a477315ee181",
    "triage": "b5b8e35982a4d35c",
}
"""Of all items, in order: builds are the same everywhere. Whoever changes a task on purpose changes its digest here."""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", _NAMES)
def test_real_wheels_give_sound_items(name: str) -> None:
    task = TASKS[name]
    split = task.load(None)
    check(split)
    assert len(split.test) >= 40
    assert len(split.train) >= 4 * len(split.test)
    assert len(split.train) <= 6000
    assert all(item.choices for half in split for item in half) == (task.metric != "rouge_l")
    assert max(len(item.prompt) for half in split for item in half) < 700
    most = Counter(item.answer for item in split.test).most_common(1)[0][1]
    assert most <= 0.7 * len(split.test), "one answer gets most of the test right"
    assert not list(_near_copies(split)), "a test item is nearly one of training"
    assert _digest(split) == _DIGESTS[name], "the items are not those of other machines, or were changed on purpose"


def _digest(split: Split) -> str:
    return hashlib.sha256(json.dumps(split).encode()).hexdigest()[:16]


def _near_copies(split: Split) -> list[tuple[str, str]]:
    """Pairs of a training and a test text that share nearly all of their words, and have the same answer."""
    texts = [words(_subject(item)) for half in split for item in half]
    common = {word for word, count in Counter(w for text in texts for w in text).items() if count > len(texts) / 3}
    items = [*split.train, *split.test]
    border = len(split.train)
    return [
        (items[one].prompt, items[other].prompt)
        for one, other in alike([text - common for text in texts], 0.9)
        if one < border <= other and items[one].answer == items[other].answer
    ]


def _subject(item: Item) -> str:
    """What differs from item to item: the prompt without its options."""
    return re.split(r"\nOptions:", item.prompt)[0] + (" " if item.choices else f" {item.answer}")
