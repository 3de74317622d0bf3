"""An engine that may still be loading while the page is up: what is known of it already, and itself once it is here."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from molora.engine import Engine, EngineInfo


class Coming:
    """Whoever needs the engine waits for it; the page needs no more than `info`, which tells less until it is here."""

    def __init__(self, info: EngineInfo) -> None:
        self.info = info
        self._engine: Future[Engine] = Future()

    @classmethod
    def of(cls, engine: Engine) -> Coming:
        """One that is here already."""
        coming = cls(engine.info)
        coming.arrive(engine)
        return coming

    def arrive(self, engine: Engine) -> None:
        self.info = engine.info
        self._engine.set_result(engine)

    def then(self, do: Callable[[], None]) -> None:
        """Does something when it arrives, or now if it is here."""
        self._engine.add_done_callback(lambda _: do())

    def here(self, seconds: float = 0) -> bool:
        """Whether it has arrived, or does so within some seconds."""
        return bool(wait([self._engine], seconds).done)

    @property
    def engine(self) -> Engine:
        """Waits for it."""
        return self._engine.result()
