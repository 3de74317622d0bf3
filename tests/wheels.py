"""Made-up wheels: zip files with the data files of a package, in its format."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING

from molora.tasks import TASKS
from molora.tasks.near import plain

if TYPE_CHECKING:
    from molora.tasks import Split


def build(name: str, files: Mapping[str, str | bytes]) -> Split:
    """The task made from such a wheel, after the checks that hold for every task."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)
    splits = [TASKS[name].build(zipfile.Path(zipfile.ZipFile(packed))) for _ in range(2)]
    assert splits[0] == splits[1], "a second build differs"
    check(splits[0])
    return splits[0]


def check(split: Split) -> None:
    items = [*split.train, *split.test]
    assert items
    assert all(item.concept and item.prompt and item.answer == item.answer.strip() != "" for item in items)
    assert all(item.answer in item.choices and len(set(item.choices)) >= 2 for item in items if item.choices)
    assert len(items) == len({(item.prompt, item.answer) for item in items}), "an item comes twice"
    shared = {plain(item.concept) for item in split.train} & {plain(item.concept) for item in split.test}
    assert not shared, "a concept is in both halves"


def items_of(split: Split) -> dict[str, str]:
    """Prompt -> answer, of both halves."""
    return {item.prompt: item.answer for half in split for item in half}


def made_up(count: int) -> list[str]:
    """Words that no text has and that are not alike."""
    syllables = [consonant + vowel for consonant in "bdfgklmnprtvz" for vowel in "aeiou"]
    return [f"{one}{two}ko" for one in syllables for two in syllables][: count * 7 : 7]
