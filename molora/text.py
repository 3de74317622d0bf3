"""Token ids -> text, a piece for each token, whole characters only."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

_CUT = "\ufffd"
_LONGEST = 4
"""A UTF-8 character has at most four bytes, so at most four byte-level tokens."""


class TokenText:
    """Gives for each token the text that it completes.

    A Chinese character or an emoji that is split over byte-level tokens comes whole with its last token; the earlier
    ones give "". Bytes that never become a character are left out.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._said: list[int] = []
        self._pending: list[int] = []

    def push(self, token_id: int) -> str:
        """The text completed by the next token."""
        self._pending.append(token_id)
        # The last piece stands before the new one: some tokenizers drop the leading space of what they decode alone.
        piece = self._decode(self._said + self._pending)[len(self._decode(self._said)) :]
        if piece.endswith(_CUT) and len(self._pending) < _LONGEST:
            return ""
        self._said, self._pending = self._pending, []
        return piece.replace(_CUT, "")

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        return [self.push(token_id) for token_id in token_ids]

    def inner(self, token_id: int) -> str:
        """What a token adds inside a text, wherever that is; "" for one that is only a part of a character."""
        before, length = self._before
        return self._decode([*before, token_id])[length:].replace(_CUT, "")

    @cached_property
    def _before(self) -> tuple[list[int], int]:
        """Tokens to stand before another, for tokenizers that drop a leading space, and the length of their text."""
        ids = self._tokenizer.encode("a", add_special_tokens=False)
        return ids, len(self._decode(ids))

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
