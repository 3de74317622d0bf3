"""A real tokenizer out of nothing: every byte is a token, and the rest of the vocabulary are runs of bytes.

It goes with weights made at random, where no tokenizer may be downloaded.
"""

from __future__ import annotations

from itertools import chain, islice, product
from typing import TYPE_CHECKING

from molora.chat import CHATML

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def byte_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """`vocabulary` tokens (at least 259): 256 bytes, pairs and triples of them that no text is ever split into, and
    ChatML's special ones last. Each id decodes to bytes of its own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    runs = chain.from_iterable(map("".join, product(alphabet, repeat=length)) for length in (1, 2, 3))
    words = [*islice(runs, vocabulary - len(SPECIAL)), *SPECIAL]
    tokenizer = Tokenizer(models.BPE(vocab={word: number for number, word in enumerate(words)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHATML,
    )
