"""Carries what a training tells to a server, from a thread of its own: a slow server must not slow the training."""

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from theta_ml.settings import SettingsError
from theta_ml.stage import StageFailed, StageRetry

Item = TypeVar("Item")
FLUSH_SECONDS = 2.0
"""Items that come within it travel together."""
RETRY_SECONDS = 5.0


class Courier(Generic[Item]):
    """Sends items in order and together; keeps them while the server is away (StageRetry), and tries again.

    Any other refusal (StageFailed, SettingsError) ends it: what is added after it goes nowhere, and `log` hears why.
    """

    def __init__(self, name: str, send: Callable[[list[Item]], None], log: Callable[[str], None]) -> None:
        self._name, self._send, self._log = name, send, log
        self._items: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._abandoned = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def add(self, item: Item) -> None:
        self._items.put(item)

    def close(self, seconds: float) -> Exception | None:
        """Waits so long for the last items to arrive; says why where they did not."""
        self._closing.set()
        self._items.put(None)
        self._thread.join(seconds)
        self._abandoned.set()
        if self._thread.is_alive():
            return self._error or StageRetry(f"{self._name}: no answer within {seconds:g} s")
        return self._error

    def _work(self) -> None:
        try:
            self._carry()
        except BaseException as error:  # a fault of ours: `close` must not say that all arrived
            self._error = StageFailed(f"{self._name}: {error!r}")
            raise

    def _carry(self) -> None:
        waiting: list[Item] = []
        over = False
        while not over or waiting:
            over = over or self._gather(waiting)
            try:
                if waiting:
                    self._send(waiting)
                waiting, self._error = [], None
            except StageRetry as error:
                self._complain(error, "it is tried again")
                if self._abandoned.wait(RETRY_SECONDS if not over else 0.5):
                    return
            except (StageFailed, SettingsError) as error:
                self._complain(error, "nothing more is sent there")
                return

    def _gather(self, waiting: list[Item]) -> bool:
        """Adds what came and what comes within the next moments; whether that is all there will be."""
        first = [self._items.get()] if not waiting else []
        if None not in first:
            self._closing.wait(FLUSH_SECONDS)
        while not self._items.empty():
            first.append(self._items.get())
        waiting += [item for item in first if item is not None]
        return None in first

    def _complain(self, error: Exception, outcome: str) -> None:
        if self._error is None:  # once, not with every attempt
            self._log(f"{self._name}: {error}; {outcome}")
        self._error = error
