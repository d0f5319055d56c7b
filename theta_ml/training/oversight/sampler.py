"""Samples the sensors about each second, in a thread of its own: no step of the training waits for it."""

import threading
from collections.abc import Callable

from theta_ml.training.oversight.sensors import Load, Sensors

SECONDS = 1.0


class Sampler:
    """From `start` to `close`; every listener hears of every sample, in the sampler's thread.

    `ended` is called at its end, with the fault that brought it about, if one did: whoever waits for a sample waits no
    longer.
    """

    def __init__(
        self,
        sensors: Sensors,
        listeners: list[Callable[[Load], None]],
        ended: Callable[[BaseException | None], None],
    ) -> None:
        self._sensors, self._listeners, self._ended = sensors, listeners, ended
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="sampler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        try:
            self._watch()
        except BaseException as fault:
            self._ended(fault)
            raise
        self._ended(None)

    def _watch(self) -> None:
        while not self._closing.is_set():
            load = self._sensors.sample()
            for listener in self._listeners:
                listener(load)
            self._closing.wait(SECONDS)


class Recent:
    """The samples since the last look."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._samples: list[Load] = []
        self.latest = Load()

    def hear(self, load: Load) -> None:
        with self._lock:
            self.latest = load
            self._samples.append(load)

    def take(self) -> Load:
        """Their means; of memory and temperature, the most; of reasons for lower clocks, all. Then starts anew."""
        with self._lock:
            taken, self._samples = self._samples, []
        return Load(
            utilisation=_mean([load.utilisation for load in taken]),
            memory_bytes=max((load.memory_bytes for load in taken if load.memory_bytes is not None), default=None),
            temperature_c=max((load.temperature_c for load in taken if load.temperature_c is not None), default=None),
            power_w=_mean([load.power_w for load in taken]),
            throttled=tuple(sorted({reason for load in taken for reason in load.throttled})),
        )


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
