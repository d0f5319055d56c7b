"""What the training runs on; `oversight.sensors` says how hard it works."""

from contextlib import AbstractContextManager

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
