"""What the training runs on, and how hard it works."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import ModuleType

import torch


def pick_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is computed by the hardware; emulated, it is several times slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    units = torch.cpu.get_capabilities()
    return bool(units.get("avx512_bf16") or units.get("amx_bf16"))


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """Matrix products in bfloat16 where the hardware has it; weights and optimizer stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device))


@dataclass
class Load:
    """What a GPU did, on average, since the last look."""

    utilisation: float | None = None
    """Percent of the time in which it computed."""
    memory_bytes: int | None = None
    temperature_c: float | None = None
    power_w: float | None = None


@dataclass
class Gauge:
    """Samples the GPU through NVML; without a GPU, or without its driver, every number is None."""

    device: torch.device
    samples: list[Load] = field(default_factory=list)
    _nvml: ModuleType | None = None
    _handle: object = None

    def __post_init__(self) -> None:
        if self.device.type != "cuda":
            return
        import pynvml

        try:
            pynvml.nvmlInit()
            # By its UUID: NVML counts all the GPUs of the machine, torch only those it may see.
            uuid = f"GPU-{torch.cuda.get_device_properties(self.device).uuid}"
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        except pynvml.NVMLError:
            return  # a container may see the GPU without its management library: train all the same, unmeasured
        self._nvml = pynvml

    def sample(self) -> None:
        if self._nvml is None:
            return
        self.samples.append(
            Load(
                utilisation=float(self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu),
                memory_bytes=int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used),
                temperature_c=float(self._nvml.nvmlDeviceGetTemperature(self._handle, 0)),
                power_w=self._nvml.nvmlDeviceGetPowerUsage(self._handle) / 1000,
            )
        )

    def read(self) -> Load:
        """The samples' means (of memory, the most), and starts anew."""
        taken, self.samples = self.samples, []
        if not taken:
            return Load()
        return Load(
            utilisation=sum(s.utilisation or 0 for s in taken) / len(taken),
            memory_bytes=max(s.memory_bytes or 0 for s in taken),
            temperature_c=sum(s.temperature_c or 0 for s in taken) / len(taken),
            power_w=sum(s.power_w or 0 for s in taken) / len(taken),
        )
