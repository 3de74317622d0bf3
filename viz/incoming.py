"""Files on their way from the browser to the event that opens them: in memory alone, bounded, each taken once.

An event's JSON could hold them only as base64, which takes longer than reading them (`python -m viz.paint`).
"""

from __future__ import annotations

import secrets
import time
from threading import Lock
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse, Response

from molora.opening import MAX_BYTES

if TYPE_CHECKING:
    from starlette.requests import Request

PATH = "/molora/incoming"
MOST_WAITING, SECONDS = 4, 60
"""Files that may wait at once, and for how long; the oldest goes first."""


class Incoming:
    """What has arrived and waits for its event."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._files: dict[str, tuple[float, bytes]] = {}

    def put(self, content: bytes) -> str:
        """Keeps a file and returns the word that `take` gives it out for."""
        word = secrets.token_urlsafe(24)
        with self._lock:
            self._forget()
            while len(self._files) >= MOST_WAITING:
                del self._files[next(iter(self._files))]
            self._files[word] = (time.monotonic(), content)
        return word

    def take(self, word: str) -> bytes | None:
        """The file, once; None if there is none such, or no more."""
        with self._lock:
            self._forget()
            return self._files.pop(word, (0, None))[1]

    def _forget(self) -> None:
        since = time.monotonic() - SECONDS
        self._files = {word: kept for word, kept in self._files.items() if kept[0] >= since}


incoming = Incoming()
"""The one of this process: a page's event and the address below share it."""


async def receive(request: Request) -> Response:
    """POST of a file's bytes, answered with its word; 413 for more than `MAX_BYTES`."""
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MAX_BYTES:
            return Response(status_code=413)
    return PlainTextResponse(incoming.put(bytes(content)))
