from __future__ import annotations

from typing import Any

import pytest

from molora.errors import MoloraError
from molora.tasks import Item
from molora.training.examples import IGNORED, Example, as_messages, collate, encode, mix
from tests.released import make_tokenizer

TOKENIZER: Any = make_tokenizer()


def scored(example: Example) -> str:
    text: str = TOKENIZER.decode([label for label in example.labels if label != IGNORED])
    return text


def test_examples_carry_loss_on_the_answer_and_its_end() -> None:
    example = encode(TOKENIZER, as_messages(Item("Is it asthma?", "yes")), 200)
    assert example is not None
    assert scored(example) == "yes<|im_end|>"
    assert all(label in (IGNORED, token) for token, label in zip(example.token_ids, example.labels, strict=True))
    start = next(at for at, label in enumerate(example.labels) if label != IGNORED)
    assert TOKENIZER.decode(example.token_ids[:start]).endswith("<|im_start|>assistant\n")
    assert encode(TOKENIZER, as_messages(Item("Is it asthma?", "yes")), start) is None, "nothing of the answer left"


def test_every_answer_of_a_conversation_carries_loss() -> None:
    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Is it asthma?"},
        {"role": "assistant", "content": "yes<|im_end|>"},
        {"role": "user", "content": "And now?"},
        {"role": "assistant", "content": "Rest."},
    ]
    example = encode(TOKENIZER, talk, 500, task=3)
    assert example is not None
    assert example.task == 3
    assert scored(example) == "yes<|im_end|><|im_end|>Rest.<|im_end|>", "what is written as a special token is text"
    assert TOKENIZER.decode(example.token_ids).startswith("<|im_start|>system\nBe brief.<|im_end|>\n")


def test_padding_and_prompts_have_no_label() -> None:
    batch = collate([Example([5, 6, 7, 8], [IGNORED, IGNORED, 7, 8], 4), Example([9, 10], [IGNORED, 10])], pad=0)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8], [9, 10, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORED, IGNORED, 7, 8], [IGNORED, 10, IGNORED, IGNORED]]
    assert batch["task"].tolist() == [4, 0]


def test_mix_keeps_the_shares_and_deals_pools_out_whole() -> None:
    pools = {"a": [Example([n], [n]) for n in range(10)], "b": [Example([n], [n]) for n in range(100, 103)]}
    dealt = mix(pools, {"a": 1.0, "b": 1.0}, 20, seed=0)
    ids = [example.token_ids[0] for example in dealt]
    assert sorted(ids)[:10] == list(range(10)), "each once before any comes again"
    assert all(ids.count(n) in (3, 4) for n in (100, 101, 102))
    with pytest.raises(MoloraError, match=r"No item of b leaves room .*--max-length"):
        mix(pools | {"b": []}, {"a": 1.0, "b": 1.0}, 20, seed=0)
    assert dealt == mix(pools, {"a": 1.0, "b": 1.0}, 20, seed=0) != mix(pools, {"a": 1.0, "b": 1.0}, 20, seed=1)
