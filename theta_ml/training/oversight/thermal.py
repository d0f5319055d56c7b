"""Heat: over one temperature a mail, over another a pause, and where that does not cool, a checkpoint and the end."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import TrainerCallback

from theta_ml.settings import Settings, SettingsError
from theta_ml.training.oversight.sensors import Load


@dataclass(frozen=True)
class Limits:
    """Degrees Celsius."""

    warning: float
    limit: float
    resume: float

    def __post_init__(self) -> None:
        if not self.resume < self.warning <= self.limit:
            raise SettingsError(
                f"temperatures {self.resume:g} (THETA_TEMPERATURE_RESUME), {self.warning:g} "
                f"(THETA_TEMPERATURE_WARNING) and {self.limit:g} (THETA_TEMPERATURE_LIMIT) must rise in this order"
            )

    @classmethod
    def of(cls, settings: Settings, device: torch.device) -> "Limits":
        """The settings', or the usual ones of the device. Raises SettingsError where they make no sense."""
        usual = _USUAL["cuda" if device.type == "cuda" else "cpu"]
        warning, limit, resume = settings.temperature_warning, settings.temperature_limit, settings.temperature_resume
        return cls(
            usual.warning if warning is None else warning,
            usual.limit if limit is None else limit,
            usual.resume if resume is None else resume,
        )


# A data centre's GPU lowers its clocks at about 87-90; many a processor runs at 95 by design.
_USUAL = {"cuda": Limits(83, 88, 75), "cpu": Limits(95, 102, 85)}


class Thermostat:
    """The sampler says how hot it is, the training waits here while that is too hot.

    `tell` hears of `warm`, `paused`, `resumed` and `stopped`, each with a sentence. To end the training, `stop` is set,
    as SIGTERM does: it writes a checkpoint and leaves; `stopped` then says why.
    """

    def __init__(
        self, limits: Limits, cool_seconds: float, stop: threading.Event, tell: Callable[[str, str], None]
    ) -> None:
        self.limits, self._cool_seconds, self._stop, self._tell = limits, cool_seconds, stop, tell
        self._go = threading.Event()
        self._go.set()
        self._paused_at = math.inf
        self._warm = False
        self.stopped: str | None = None
        self.paused_seconds = 0.0
        """Of the pauses that ended."""

    @property
    def is_paused(self) -> bool:
        return not self._go.is_set()

    def wait(self) -> None:
        """Returns once it is cool enough, or the training is asked to end."""
        self._go.wait()

    def close(self) -> None:
        """Nothing looks at the sensors any more: nobody may wait for them."""
        self._go.set()

    def see(self, load: Load) -> None:
        """One sample. While paused, a sensor that fell silent counts as hot."""
        if self.is_paused:
            self._see_paused(load)
        elif load.temperature_c is not None and load.temperature_c >= self.limits.limit:
            self._pause(load.temperature_c)
        else:
            self._see_running(load)

    def _see_running(self, load: Load) -> None:
        warm = load.is_thermal or (load.temperature_c is not None and load.temperature_c >= self.limits.warning)
        if warm and not self._warm:
            self._tell("warm", _warm_sentence(load, self.limits))
        self._warm = warm

    def _pause(self, temperature: float) -> None:
        if self._stop.is_set():
            return
        self._paused_at = time.monotonic()
        self._go.clear()
        self._tell(
            "paused",
            f"{temperature:g} °C: over the limit of {self.limits.limit:g} °C, the training pauses until it has cooled "
            f"to {self.limits.resume:g} °C, at most {self._cool_seconds / 60:g} min",
        )

    def _see_paused(self, load: Load) -> None:
        waited = time.monotonic() - self._paused_at
        if load.temperature_c is not None and load.temperature_c <= self.limits.resume:
            self._tell("resumed", f"{load.temperature_c:g} °C after {waited / 60:.1f} min: the training goes on")
            self._end_pause(waited)
        elif self._stop.is_set():
            self._end_pause(waited)
        elif waited > self._cool_seconds:
            self._give_up(load, waited)

    def _give_up(self, load: Load, waited: float) -> None:
        heat = "its sensor fell silent" if load.temperature_c is None else f"it still has {load.temperature_c:g} °C"
        self.stopped = (
            f"too hot: after a pause of {waited / 60:.1f} min {heat}, and should be at {self.limits.resume:g} °C. A "
            f"checkpoint is written. See to its cooling, then clear the task (or, where it may be so hot, raise "
            f"THETA_TEMPERATURE_LIMIT, THETA_TEMPERATURE_RESUME or THETA_COOL_MINUTES): it goes on where it was"
        )
        self._stop.set()  # first: whoever waits looks at it next
        self._tell("stopped", self.stopped)
        self._end_pause(waited)

    def _end_pause(self, waited: float) -> None:
        self.paused_seconds += waited
        self._go.set()


def _warm_sentence(load: Load, limits: Limits) -> str:
    degrees = "" if load.temperature_c is None else f"{load.temperature_c:g} °C"
    if load.is_thermal:
        return f"{degrees or 'heat'}: the device lowers its clocks for heat, and the training is slower for it"
    return f"{degrees}: over the warning temperature of {limits.warning:g} °C; it would pause at {limits.limit:g} °C"


class ThermalCallback(TrainerCallback):
    """Waits before each micro-batch while it is too hot; the training's own look at `stop` comes after it."""

    def __init__(self, thermostat: Thermostat) -> None:
        self._thermostat = thermostat

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._thermostat.wait()

    def on_substep_end(self, *_: Any, **__: Any) -> None:
        self._thermostat.wait()

    def on_prediction_step(self, *_: Any, **__: Any) -> None:
        self._thermostat.wait()
