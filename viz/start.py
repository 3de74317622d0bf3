"""`python -m viz.start`: how long the program takes from its start to its page, its model, and the tokens of an answer.

Each start is measured as a user would: the program is a process of its own, and is asked through its public endpoint.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from socket import socket

from gradio_client import Client

from molora.bench.fresh import QUESTION

_ROOT = Path(__file__).parents[1]
_TOKENS = 96
"""Of an answer, at most"""


def main() -> None:
    parser = argparse.ArgumentParser("python -m viz.start", description=__doc__.partition("\n")[0])
    parser.add_argument("--starts", type=int, default=3, help="how often (default: %(default)s)")
    parser.add_argument("--model", default="demo", help="as app.py takes it (default: %(default)s)")
    args = parser.parse_args()
    print("| start | page | model loaded | first token of a question | each further one of a third |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for number in range(1, args.starts + 1):
        page, loaded, first, further = start(args.model)
        print(f"| {number} | {page:.1f} s | {loaded:.1f} s | {first:.2f} s | {1000 * further:.1f} ms |", flush=True)


def start(model: str) -> tuple[float, float, float, float]:
    """Seconds to the page and to the model, from the start on; from a question to its answer's first token; and for
    each further token when it is asked for the third time."""
    begun = time.perf_counter()
    with _running(model) as (url, program):
        while not _served(url):
            if program.poll() is not None:
                sys.exit("viz.start: the program ended, see above.")
            time.sleep(0.02)
        page = time.perf_counter() - begun
        if not any(line == f"{model} is loaded.\n" for line in program.stdout or ()):
            sys.exit(f"viz.start: {model} was not loaded.")
        loaded = time.perf_counter() - begun
        client = Client(url, verbose=False)
        asked = time.perf_counter()
        (first, _), *_ = _read(client)
        _read(client)  # by then all is done that the first one did not wait for
        read = _read(client)
        (begun, few), (ended, all_) = read[0], read[-1]
        if all_ == few:
            sys.exit("viz.start: the answer has one token, which leaves none to time.")
        return page, loaded, first - asked, (ended - begun) / (all_ - few)


def _read(client: Client) -> list[tuple[float, int]]:
    """Of an answer: when there was how much of it, in tokens."""
    answers = client.submit(QUESTION, max_new_tokens=_TOKENS, api_name="/ask")
    return [(time.perf_counter(), len(answer["tokens"])) for answer in answers if answer["answer"]]


@contextmanager
def _running(model: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The program, and where its page will be."""
    with closing(socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "app.py", "--model", model, "--port", str(port)]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as program:
        try:
            yield f"http://127.0.0.1:{port}/", program
        finally:
            program.terminate()


def _served(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
