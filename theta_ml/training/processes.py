"""What the processes of one training know of each other.

What they decide they must decide alike, or one waits for ever for the others: who wants to stop, whether a checkpoint
is due, how many rows go at once. They agree over the CPU (gloo), beside the GPUs' own traffic, so that no step waits
for a GPU to say so.
"""

import os
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
from torch import distributed

from theta_ml.settings import Settings

Said = TypeVar("Said")
PAUSE = timedelta(hours=12)
"""The others wait so long for one that pauses, as a hot GPU makes it. One that dies they notice at once."""


def process_count(settings: Settings) -> int:
    """Of this machine: `THETA_TRAIN_PROCESSES`, else one for each GPU that this process may see, else one."""
    return settings.train_processes or max(1, torch.cuda.device_count())


def world_size() -> int:
    """Processes of this training."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the process that writes and tells."""
    return os.environ.get("RANK", "0") == "0"


def any_of_all(flag: bool) -> bool:
    """Whether any process says so. All must ask, at the same place."""
    return bool(_reduced(int(flag), distributed.ReduceOp.MAX)) if world_size() > 1 else flag


def least_of_all(number: int) -> int:
    """All must ask, at the same place."""
    return _reduced(number, distributed.ReduceOp.MIN) if world_size() > 1 else number


def _reduced(number: int, how: distributed.ReduceOp.RedOpType) -> int:
    value = torch.tensor([number])
    distributed.all_reduce(value, how, group=side_channel())
    return int(value)


def said_by_all(what: Said) -> list[Said]:
    """What each process says, in their order. All must ask, at the same place."""
    if world_size() == 1:
        return [what]
    said: list[Any] = [None] * world_size()
    distributed.all_gather_object(said, what, group=side_channel())
    return said


@cache
def side_channel() -> distributed.ProcessGroup:
    """Over the CPU."""
    if not distributed.is_initialized():
        from accelerate import PartialState  # as the trainer itself would, a little later

        PartialState(cpu=not torch.cuda.is_available())
    group = distributed.new_group(backend="gloo", timeout=PAUSE)
    assert isinstance(group, distributed.ProcessGroup)
    return group
