"""Files on their way: taken once, forgotten in time, bounded in number and size."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from viz import incoming as module
from viz.incoming import MOST_WAITING, PATH, Incoming, incoming, receive


@pytest.fixture
def client() -> TestClient:
    return TestClient(Starlette(routes=[Route(PATH, receive, methods=["POST"])]))


def test_a_file_is_taken_once() -> None:
    held = Incoming()
    word = held.put(b"trace")
    assert held.take("else") is None
    assert held.take(word) == b"trace"
    assert held.take(word) is None


def test_only_a_few_wait_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Incoming()
    words = [held.put(bytes([number])) for number in range(MOST_WAITING + 1)]
    assert len(set(words)) == len(words)
    assert held.take(words[0]) is None
    assert held.take(words[1]) == b"\x01"
    monkeypatch.setattr(module, "SECONDS", -1)
    assert held.take(words[2]) is None


def test_what_is_sent_arrives_as_it_is(client: TestClient) -> None:
    answer = client.post(PATH, content=bytes(range(256)) * 1000)
    assert incoming.take(answer.text) == bytes(range(256)) * 1000
    assert client.get(PATH).status_code == 405


def test_what_is_too_large_is_not_kept(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 30)
    assert client.post(PATH, content=b"x" * 31).status_code == 413
    assert incoming.take("") is None
