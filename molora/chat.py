"""Messages -> token ids, with each token's phase: the chat template's own, or what somebody wrote.

What people write is tokenized apart from the template, so a "<|im_end|>" typed into a question stays plain text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from threading import Lock
from typing import Any, NamedTuple

from molora.errors import MoloraError
from molora.trace import PROMPT, TEMPLATE

Message = dict[str, Any]

CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The template of MING-MOE and of the Qwen1.5 chat models it grew on."""

_ROLES = ("system", "user", "assistant")
_ENCODING = Lock()
_MARK = "\ue0a7{}\ue0a8"
_MARKS = re.compile("\ue0a7(\\d+)\ue0a8")


class Prompt(NamedTuple):
    token_ids: list[int]
    """[T]"""
    phase: list[int]
    """[T], TEMPLATE or PROMPT"""


class Turns(NamedTuple):
    token_ids: list[int]
    """[T]"""
    message: list[int | None]
    """[T], the number of the message that a token is part of; None for the template's own"""


def encode_chat(tokenizer: Any, messages: Sequence[Message]) -> Prompt:
    """The conversation and the opening of the assistant's turn.

    Without a template of its own the tokenizer gets ChatML. Raises MoloraError for messages that are not a
    conversation: none, an empty question, an unknown role, a template that refuses their order.
    """
    check_messages(messages)
    if not messages[-1]["content"].strip():
        raise MoloraError("The question is empty; type one.")
    if messages[-1]["role"] != "user":
        raise MoloraError("The last message must be the user's; the model answers it.")
    turns = encode_turns(tokenizer, messages, open_answer=True)
    return Prompt(turns.token_ids, [TEMPLATE if number is None else PROMPT for number in turns.message])


def encode_turns(tokenizer: Any, messages: Sequence[Message], *, open_answer: bool) -> Turns:
    """The messages as the template writes them; with `open_answer` the assistant's next turn is begun.

    Raises MoloraError if the template refuses the messages.
    """
    marked = [{"role": m["role"], "content": _MARK.format(i)} for i, m in enumerate(messages)]
    try:
        rendered = tokenizer.apply_chat_template(
            marked, chat_template=tokenizer.chat_template or CHATML, tokenize=False, add_generation_prompt=open_answer
        )
    except Exception as error:  # templates are small programs and raise whatever their authors chose
        raise MoloraError(f"The model's chat template refuses this conversation: {error}.") from error
    turns = Turns([], [])
    for at, piece in enumerate(_MARKS.split(rendered)):  # template, number, template, number, ..., template
        number = int(piece) if at % 2 else None
        text = piece if number is None else messages[number]["content"]
        ids = encode(tokenizer, text, plain=number is not None)
        turns.token_ids.extend(ids)
        turns.message.extend([number] * len(ids))
    return turns


def encode(tokenizer: Any, text: str, *, plain: bool = True) -> list[int]:
    """Token ids of a text as it stands. `plain`: special tokens in it are the letters that they are written with.

    One at a time: the tokenizer keeps that choice as a state of its own, which two threads would change for each other.
    """
    with _ENCODING:
        ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=plain)["input_ids"]
    return ids


def check_messages(messages: Sequence[Message]) -> None:
    """Raises MoloraError for what is no list of messages with a known role and text."""
    if not messages:
        raise MoloraError("There is no message to answer; give at least one {'role': 'user', 'content': ...}.")
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise MoloraError(f"Message {number} needs a 'role', one of {', '.join(_ROLES)}.")
        if not isinstance(message.get("content"), str):
            raise MoloraError(f"Message {number} needs 'content' that is text.")
