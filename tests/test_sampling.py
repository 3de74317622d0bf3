from __future__ import annotations

from typing import Any

import pytest

from molora.errors import MoloraError
from molora.sampling import Sampling


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0; it must lie between 1 and 1000000"),
        ({"temperature": float("nan")}, "temperature is nan; it must lie between 0.0 and 100.0"),
        ({"top_p": 1.5}, "top_p is 1.5; it must lie between 0.0 and 1.0"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0; it must lie between 0.01 and 100.0"),
        ({"seed": "lucky"}, "seed is 'lucky'; it must lie between 0 and"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MoloraError, match=message):
        Sampling(**settings)
