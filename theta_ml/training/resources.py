"""What a training will need, and what there is."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from theta_ml.training.presets import Preset

STATE_BYTES = 16
"""A parameter in training: float32 weight, gradient and AdamW's two moments."""
ACTIVATION_BYTES = 2 * 34
"""A token's activations in a layer, for each unit of hidden size: 34 at 16 bits (Korthikanti et al. 2022,
arXiv:2205.05198, without attention scores), twice that as our residual stream is float32."""
GPU_FLOPS = 40e12
"""Sustained by a data-centre GPU on a model this small, low rather than high."""
CGROUP_LIMIT, CGROUP_USED = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")


@dataclass(frozen=True)
class Needs:
    """Of a training."""

    memory_bytes: int
    disk_bytes: int


def needs(preset: Preset, parameters: int, vocabulary: int, max_length: int) -> Needs:
    recipe, shape = preset.recipe, preset.shape
    tokens = recipe.rows_at_once * max_length
    activations = tokens * shape.hidden_size * shape.layers * ACTIVATION_BYTES
    logits = tokens * vocabulary * 4 * 3  # logits, their softmax and their gradient, if every token bore loss
    checkpoints = 3 * 12 + 2 * 4  # three whole ones for a moment, and two sets of best weights
    return Needs(
        memory_bytes=parameters * STATE_BYTES + activations + logits,
        disk_bytes=parameters * (checkpoints + 4),
    )


def available_memory(device: torch.device) -> int:
    """Bytes. Of a GPU all its memory: another training may hold some of it now, but none once ours is booked."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    free = int(psutil.virtual_memory().available)
    limit = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.exists() else "max"
    return free if limit == "max" else min(free, int(limit) - int(CGROUP_USED.read_text()))


def free_disk(folder: Path) -> int:
    """Bytes on the disk of `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(folder).free
