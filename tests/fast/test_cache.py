"""Keys and values in a buffer that grows, as transformers and the lean pass write them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from molora.fast import growing_cache


def states(tokens: int) -> Tensor:
    return torch.randn(1, 2, tokens, 4)


def test_what_is_added_is_seen_and_stays_as_the_buffer_grows() -> None:
    cache, keys, values = growing_cache(1), states(700), states(700)
    assert cache.get_seq_length() == 0
    for some in (slice(0, 5), slice(5, 6), slice(6, 700)):
        found = cache.update(keys[:, :, some], values[:, :, some], 0)
        assert torch.equal(found[0], keys[:, :, : some.stop])
        assert torch.equal(found[1], values[:, :, : some.stop])
    assert cache.get_seq_length() == 700


def test_one_that_is_reset_begins_anew() -> None:
    cache, keys = growing_cache(1), states(3)
    cache.update(states(9), states(9), 0)
    cache.reset()
    assert cache.get_seq_length() == 0
    assert torch.equal(cache.update(keys, keys, 0)[1], keys)


def test_one_who_reads_float16_gets_it_and_others_what_they_gave() -> None:
    cache, keys, values = growing_cache(1), states(9), states(9)
    (layer,) = cache.layers
    layer.add(keys[:, :, :5], 1e6 * values[:, :, :5])
    assert layer.make_room(2, keys[:, :, :0].half()) == 5
    assert layer.keys.dtype == torch.float16
    assert torch.equal(layer.keys[:, :, :5], keys[:, :, :5].half())
    assert torch.equal(layer.values[:, :, :5], (1e6 * values[:, :, :5]).clamp(-65504, 65504).half())
    layer.put(torch.tensor([6, 5]), keys[:, :, [6, 5]], 1e6 * values[:, :, [6, 5]])
    layer.push(torch.stack([keys[:, :, 7:8], 1e6 * values[:, :, 7:8]]))
    found = cache.update(keys[:, :, 8:], 1e6 * values[:, :, 8:], 0)
    assert torch.equal(found[0], keys.half().float())
    assert torch.equal(found[1], (1e6 * values).clamp(-65504, 65504).half().float())


def test_what_the_buffer_cannot_do_is_refused_and_nothing_is_lost() -> None:
    cache, keys = growing_cache(1), states(9)
    cache.update(keys, keys, 0)
    with pytest.raises(AttributeError, match="only be added to"):
        cache.crop(-2)
    assert torch.equal(cache.layers[0].keys, keys)
