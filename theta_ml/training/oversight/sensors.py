"""How hard what trains is working, and how hot it is: of a GPU through NVML, of a processor from the system."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol, TypeVar

import torch

from theta_ml.training.processes import world_size

Number = TypeVar("Number")
THERMAL = ("hardware thermal slowdown", "software thermal slowdown")
"""Reasons among Load.throttled that mean heat."""
_CHIPS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
"""What Linux calls a processor's sensors: Intel's, AMD's two, and those of many ARM boards."""
_REASONS = {
    "nvmlClocksEventReasonHwThermalSlowdown": THERMAL[0],
    "nvmlClocksEventReasonSwThermalSlowdown": THERMAL[1],
    "nvmlClocksEventReasonHwPowerBrakeSlowdown": "power brake",
    "nvmlClocksEventReasonHwSlowdown": "hardware slowdown",
    "nvmlClocksEventReasonSwPowerCap": "power cap",
}


@dataclass(frozen=True)
class Load:
    """One sample, or several together; what cannot be measured is None."""

    utilisation: float | None = None
    """Percent of the time in which it computed."""
    memory_bytes: int | None = None
    """In use on the GPUs; resident of this process on a processor."""
    temperature_c: float | None = None
    power_w: float | None = None
    throttled: tuple[str, ...] = ()
    """Why its clocks are lower than they could be."""

    @property
    def is_thermal(self) -> bool:
        """Whether heat lowers the clocks."""
        return any(reason in THERMAL for reason in self.throttled)


class Sensors(Protocol):
    """What can be asked how it is."""

    def sample(self) -> Load: ...


def open_sensors(device: torch.device) -> Sensors:
    """Those of the device; of a GPU whose driver is out of reach (some containers) ones that measure nothing.

    Where several processes train, each with a GPU of its own, those of all of them: the first pauses for all.
    """
    if device.type != "cuda":
        return _Processor()
    if world_size() == 1:
        return _Gpu.open(device)
    count = min(world_size(), torch.cuda.device_count())
    return _Together([_Gpu.open(torch.device("cuda", index)) for index in range(count)])


class _Together:
    """Several GPUs as one: as hot as the hottest, as busy as they are on average; their memory and power are added.

    One that falls silent is as hot as it last was: it must not look as if it had cooled.
    """

    def __init__(self, gpus: Sequence[Sensors]) -> None:
        self._gpus = gpus
        self._temperatures: dict[int, float] = {}
        """The last of each, by its place."""

    def sample(self) -> Load:
        loads = [gpu.sample() for gpu in self._gpus]
        self._temperatures |= {n: load.temperature_c for n, load in enumerate(loads) if load.temperature_c is not None}
        busy = [load.utilisation for load in loads if load.utilisation is not None]
        memory = [load.memory_bytes for load in loads if load.memory_bytes is not None]
        power = [load.power_w for load in loads if load.power_w is not None]
        return Load(
            utilisation=sum(busy) / len(busy) if busy else None,
            memory_bytes=sum(memory) if memory else None,
            temperature_c=max(self._temperatures.values(), default=None),
            power_w=sum(power) if power else None,
            throttled=tuple(dict.fromkeys(reason for load in loads for reason in load.throttled)),
        )


class _Gpu:
    def __init__(self, nvml: ModuleType, handle: object) -> None:
        self._nvml, self._handle = nvml, handle

    @classmethod
    def open(cls, device: torch.device) -> Sensors:
        import pynvml

        try:
            pynvml.nvmlInit()
            # By its UUID: NVML counts all the GPUs of the machine, torch only those it may see.
            uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
            return cls(pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid))
        except pynvml.NVMLError:
            return _Nothing()

    def sample(self) -> Load:
        nvml, handle = self._nvml, self._handle
        power = self._ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000)
        return Load(
            utilisation=self._ask(lambda: float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)),
            memory_bytes=self._ask(lambda: int(nvml.nvmlDeviceGetMemoryInfo(handle).used)),
            temperature_c=self._ask(
                lambda: float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
            ),
            power_w=power,
            throttled=self._ask(self._throttled) or (),
        )

    def _throttled(self) -> tuple[str, ...]:
        bits = self._nvml.nvmlDeviceGetCurrentClocksEventReasons(self._handle)
        return tuple(text for name, text in _REASONS.items() if bits & getattr(self._nvml, name))

    def _ask(self, question: Callable[[], Number]) -> Number | None:
        """Not every GPU answers every question, and a lost one none: each number is measured for itself."""
        try:
            return question()
        except self._nvml.NVMLError:
            return None


class _Processor:
    def __init__(self) -> None:
        import psutil

        self._psutil = psutil
        self._process = psutil.Process()
        psutil.cpu_percent()  # the first answer is about the time since this call

    def sample(self) -> Load:
        return Load(
            utilisation=self._psutil.cpu_percent(),
            memory_bytes=int(self._process.memory_info().rss),
            temperature_c=self._temperature(),
        )

    def _temperature(self) -> float | None:
        """The hottest of the processor's sensors; many virtual machines have none, nor has macOS."""
        if not hasattr(self._psutil, "sensors_temperatures"):
            return None
        try:
            read = self._psutil.sensors_temperatures()
        except OSError:  # a driver that was unloaded meanwhile
            return None
        found = [one for name in _CHIPS for one in read.get(name, [])]
        return max((float(one.current) for one in found), default=None)


class _Nothing:
    def sample(self) -> Load:
        return Load()
