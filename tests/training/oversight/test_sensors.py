"""NVML and the system, simulated at their edge."""

import sys
from types import ModuleType, SimpleNamespace

import psutil
import pytest
import torch

from theta_ml.training.oversight.sampler import Recent
from theta_ml.training.oversight.sensors import Load, open_sensors

GPU = torch.device("cuda", 0)


class NVMLError(Exception):
    pass


def _unsupported(*_: object) -> int:
    raise NVMLError("not supported")


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """One GPU with heat and a power cap, whose power cannot be read."""
    import pynvml

    fake = ModuleType("pynvml")
    fake.__dict__.update(
        {name: value for name, value in vars(pynvml).items() if name.startswith(("nvmlClocks", "NVML_"))}
    )
    handles = {"GPU-abc": "handle"}
    fake.__dict__.update(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=handles.__getitem__,
        nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=97, memory=40),
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=3 << 30),
        nvmlDeviceGetTemperature=lambda handle, sensor: 84,
        nvmlDeviceGetPowerUsage=_unsupported,
        nvmlDeviceGetCurrentClocksEventReasons=lambda handle: (
            pynvml.nvmlClocksEventReasonSwThermalSlowdown | pynvml.nvmlClocksEventReasonSwPowerCap
        ),
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="abc"))
    return fake


def test_a_gpu_says_what_it_can(nvml: ModuleType) -> None:
    load = open_sensors(GPU).sample()
    assert load == Load(97.0, 3 << 30, 84.0, None, ("software thermal slowdown", "power cap"))
    assert load.is_thermal


def test_of_several_gpus_the_hottest_counts(nvml: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    degrees: dict[str, float | None] = {"GPU-0": 60, "GPU-1": 91, "GPU-2": 99}

    def temperature(handle: str, sensor: int) -> float:
        return _unsupported() if (heat := degrees[handle]) is None else heat

    nvml.__dict__.update(
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTemperature=temperature,
        nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu={"GPU-0": 50, "GPU-1": 100}[handle]),
        nvmlDeviceGetPowerUsage=lambda handle: {"GPU-0": 300_000, "GPU-1": 400_000}[handle],
    )
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=device.index or 0))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setenv("WORLD_SIZE", "2")  # the third is not of this training
    sensors = open_sensors(GPU)
    assert sensors.sample() == Load(75.0, 6 << 30, 91.0, 700.0, ("software thermal slowdown", "power cap"))
    degrees["GPU-1"] = None  # it has fallen silent, and not cooled
    assert sensors.sample().temperature_c == 91.0
    degrees["GPU-1"] = 70
    assert sensors.sample().temperature_c == 70.0
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert open_sensors(GPU).sample().temperature_c == 60.0


def test_without_its_driver_a_gpu_says_nothing(nvml: ModuleType) -> None:
    nvml.__dict__["nvmlInit"] = _unsupported
    assert open_sensors(GPU).sample() == Load()


def test_a_lost_gpu_says_nothing_more(nvml: ModuleType) -> None:
    sensors = open_sensors(GPU)
    nvml.__dict__.update({name: _unsupported for name in vars(nvml) if name.startswith("nvmlDeviceGet")})
    assert sensors.sample() == Load()


def test_a_processor_says_the_like(monkeypatch: pytest.MonkeyPatch) -> None:
    chips = {"k10temp": [SimpleNamespace(current=71.5)], "nvme": [SimpleNamespace(current=99.0)]}
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: chips, raising=False)
    load = open_sensors(torch.device("cpu")).sample()
    assert load.temperature_c == 71.5 and load.memory_bytes and load.utilisation is not None
    monkeypatch.delattr(psutil, "sensors_temperatures")  # as on macOS
    assert open_sensors(torch.device("cpu")).sample().temperature_c is None


def test_samples_become_one() -> None:
    recent = Recent()
    recent.hear(Load(90.0, 5, 60.0, 300.0, ("power cap",)))
    recent.hear(Load(70.0, 9, 80.0, None, ("hardware slowdown",)))
    assert recent.latest.temperature_c == 80.0
    assert recent.take() == Load(80.0, 9, 80.0, 300.0, ("hardware slowdown", "power cap"))
    assert recent.take() == Load()
