"""A model hub on this machine: serves folders the way the real one does, as far as its client asks."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_COMMIT = "0" * 40


@contextmanager
def fake_hub(repos: dict[str, Path]) -> Iterator[str]:
    """Serves `owner/name` -> folder; gives the endpoint's address. Unknown names are answered as the hub does."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            path = self.path.partition("?")[0]
            if match := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)(?:/revision/.+?|/tree/.+)?", path):
                repo = repos.get(match[1])
                if repo is None:
                    self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body)
                elif "/tree/" in path:
                    tree = [
                        {"type": "file", "path": p.name, "size": p.stat().st_size, "oid": _etag(p)}
                        for p in repo.iterdir()
                    ]
                    self._send(200, json.dumps(tree).encode(), {}, body)
                else:
                    siblings = [{"rfilename": p.name} for p in repo.iterdir()]
                    info = {"id": match[1], "modelId": match[1], "sha": _COMMIT, "siblings": siblings}
                    self._send(200, json.dumps(info).encode(), {}, body)
            elif match := re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/\w+/([\w.-]+)", path):
                file = repos[match[1]] / match[2]
                headers = {"ETag": f'"{_etag(file)}"', "X-Repo-Commit": _COMMIT}
                self._send(200, file.read_bytes(), headers, body)
            else:
                self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"}, body)

        def _send(self, status: int, content: bytes, headers: dict[str, str], body: bool) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing: the test's own output is enough."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _etag(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
