"""Weights and an optimizer's moments as plain tensors by name, and back; whole, also where processes hold parts."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from theta_ml.training.processes import is_first

WRAPPED = "_checkpoint_wrapped_module."
"""What gradient checkpointing of sharded blocks puts into names."""


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Parameters by name; tied ones appear once. Of a sharded model all processes must ask, and the first gets them."""
    return {name: _whole(parameter.detach()) for name, parameter in _named(model)}


@torch.no_grad()
def restore_weights(model: nn.Module, saved: dict[str, Tensor]) -> None:
    for name, parameter in _named(model):
        parameter.copy_(_like(parameter, saved[name]))


def moments(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """As PARAMETER/exp_avg and the like; none before the first step."""
    return {
        f"{name}/{what}": _whole(value)
        for name, parameter in _named(model)
        for what, value in optimizer.state.get(parameter, {}).items()
    }


def restore_moments(model: nn.Module, optimizer: Optimizer, saved: dict[str, Tensor]) -> None:
    parameters = dict(_named(model))
    for key, value in saved.items():
        name, what = key.rsplit("/", 1)
        parameter = parameters[name]
        optimizer.state[parameter][what] = _like(parameter, value) if value.ndim else value.to(parameter.device)


def _named(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name.replace(WRAPPED, ""), parameter) for name, parameter in model.named_parameters())


def _whole(value: Tensor) -> Tensor:
    """Of a sharded one on the CPU, where there is room, and only of the first process, which writes."""
    if not isinstance(value, DTensor):
        return value.contiguous()
    gathered = value.full_tensor()
    return gathered.cpu() if is_first() else torch.empty(0)


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """This process' part of `value`, of which each has the whole."""
    value = value.to(parameter.device)
    if not isinstance(parameter, DTensor):
        return value
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)
