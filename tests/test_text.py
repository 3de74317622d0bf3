from __future__ import annotations

import pytest

from molora.text import TokenText
from tests.released import make_tokenizer

TOKENIZER = make_tokenizer()


@pytest.mark.parametrize(
    "text",
    [
        "plain words, two  spaces\n\n\tand a tab",
        "哮喘有哪些症状？高血压",
        "👩‍⚕️ says 😀!",
        "naïve café — ½",
        "鼍 rare 𠜎",
    ],
)
def test_pieces_join_to_the_text_and_are_whole_characters(text: str) -> None:
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    pieces = TokenText(TOKENIZER).pieces(ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_split_character_comes_with_its_last_token() -> None:
    ids = TOKENIZER("😀", add_special_tokens=False)["input_ids"]
    assert len(ids) == 4, "the tokenizer never saw an emoji"
    assert TokenText(TOKENIZER).pieces(ids) == ["", "", "", "😀"]


def test_bytes_that_become_no_character_are_left_out_and_do_not_hold_up_the_rest() -> None:
    half = TOKENIZER("😀", add_special_tokens=False)["input_ids"][:2]
    words = TOKENIZER(" the symptoms of it", add_special_tokens=False)["input_ids"]
    pieces = TokenText(TOKENIZER).pieces([*half, *words])
    assert "".join(pieces) == " the symptoms of it"
    endless = TokenText(TOKENIZER).pieces(half[:1] * 40)
    assert "".join(endless) == ""


def test_special_tokens_are_shown_as_written() -> None:
    ids = TOKENIZER("<|im_start|>user", add_special_tokens=False)["input_ids"]
    assert "".join(TokenText(TOKENIZER).pieces(ids)) == "<|im_start|>user"
