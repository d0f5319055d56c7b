"""SIGTERM as a flag that the training looks at between batches: it has 5 seconds to write a checkpoint and leave."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from theta_ml.training.processes import any_of_all

EXIT_TERMINATED = 128 + signal.SIGTERM
"""Of a process that left because it was asked to."""


class Stopped(Exception):
    """Somebody asked the training to end."""


@contextmanager
def stop_on_sigterm() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, inside the block."""
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()

    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)


def look(stop: threading.Event) -> None:
    """Raises Stopped where somebody asked, whichever of the processes; all of them must look at the same place."""
    if any_of_all(stop.is_set()):
        raise Stopped
