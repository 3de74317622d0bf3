"""Edits as plain data: there and back, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from molora.edits import RoutingEdit
from molora.errors import MoloraError
from molora.rules import read_edit


@pytest.mark.parametrize(
    "edit",
    [
        RoutingEdit(),
        RoutingEdit.drop([3], layers=range(4), projections=["up_proj"]) | RoutingEdit.reroute([1, 2]),
        RoutingEdit.force([0]) | RoutingEdit.base(),
    ],
)
def test_an_edit_comes_back_from_json(edit: RoutingEdit) -> None:
    assert read_edit(json.loads(json.dumps(edit.to_dict()["rules"]))) == edit


def test_numbers_are_put_in_order_and_counted_once() -> None:
    assert read_edit([{"kind": "drop", "experts": [3, 1, 3]}]) == RoutingEdit.drop([1, 3])


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("drop", "list of up to 64 rules"),
        ({"kind": "drop"}, "list of up to 64 rules"),
        ([{"kind": "drop"}] * 65, "list of up to 64 rules"),
        ([3], "Rule 0 of the edit must have the keys"),
        ([{"kind": "drop"}, {"kind": "drop", "expert": [1]}], "Rule 1 of the edit must have the keys"),
        ([{"kind": "erase"}], "needs a kind, one of drop"),
        ([{"kind": ["drop"]}], "needs a kind, one of drop"),
        ([{"kind": "drop", "experts": []}], "experts must be a list of whole numbers"),
        ([{"kind": "drop", "experts": "12"}], "experts must be a list of whole numbers"),
        ([{"kind": "drop", "experts": [True]}], "experts must be a list of whole numbers"),
        ([{"kind": "drop", "experts": [1.5]}], "experts must be a list of whole numbers"),
        ([{"kind": "drop", "layers": [10**80]}], "layers must be a list of whole numbers"),
        ([{"kind": "drop", "layers": [0] * 5000}], "layers must be a list of whole numbers"),
        ([{"kind": "drop", "projections": [1]}], "projections must be a list of names"),
        ([{"kind": "drop", "projections": ["x" * 65]}], "projections must be a list of names"),
    ],
)
def test_anything_else_is_refused(rules: Any, message: str) -> None:
    with pytest.raises(MoloraError, match=message):
        read_edit(rules)
