"""Weights and an optimizer's moments as tensors by name, and back: whole, also where each process holds a part."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True, flatten_optimizer_state_dict=True)
LOADED = StateDictOptions(full_state_dict=True, flatten_optimizer_state_dict=True, strict=False)
_STATE = "state."


def weights(model: nn.Module, sharded: bool) -> dict[str, Tensor]:
    """Parameters by name; tied ones appear once. Of a sharded model all processes must ask, and the first gets them."""
    if not sharded:
        return {name: parameter.detach().contiguous() for name, parameter in model.named_parameters()}
    names = {name for name, _ in model.named_parameters()}
    whole: Any = get_model_state_dict(model, options=WHOLE)
    return {name: value.contiguous() for name, value in whole.items() if name in names}


@torch.no_grad()
def restore_weights(model: nn.Module, saved: dict[str, Tensor], sharded: bool) -> None:
    if sharded:
        set_model_state_dict(model, dict(saved), options=LOADED)
        return
    for name, parameter in model.named_parameters():
        parameter.copy_(saved[name])


def moments(model: nn.Module, optimizer: Optimizer, sharded: bool) -> dict[str, Tensor]:
    """As PARAMETER/exp_avg and the like; none before the first step."""
    if not optimizer.state:
        return {}
    if not sharded:
        return {
            f"{name}/{what}": value.contiguous()
            for name, parameter in model.named_parameters()
            for what, value in optimizer.state.get(parameter, {}).items()
        }
    flat: dict[str, Any] = get_optimizer_state_dict(model, optimizer, options=WHOLE)
    state = {key.removeprefix(_STATE): value for key, value in flat.items() if key.startswith(_STATE)}
    return {"/".join(key.rsplit(".", 1)): value.contiguous() for key, value in state.items()}


def restore_moments(model: nn.Module, optimizer: Optimizer, saved: dict[str, Tensor], sharded: bool) -> None:
    if not saved:
        return
    if sharded:
        flat: dict[str, Any] = get_optimizer_state_dict(model, optimizer, options=LOADED)
        flat |= {_STATE + ".".join(key.rsplit("/", 1)): value for key, value in saved.items()}
        set_optimizer_state_dict(model, optimizer, flat, options=LOADED)
        return
    parameters = dict(model.named_parameters())
    for key, value in saved.items():
        name, what = key.rsplit("/", 1)
        optimizer.state[parameters[name]][what] = value.to(parameters[name].device)
