"""How many rows are computed at once: found, not guessed.

The rows behind a step are the recipe's (`rows_per_step`); how many of them go through the model together is the
machine's business. As each labelled token weighs the same in all parts of a step, the choice changes speed and memory,
not the loss, and it is no part of what names a model.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from accelerate.utils.memory import should_reduce_batch_size
from transformers import PreTrainedModel

from theta_ml.stage import StageFailed
from theta_ml.training.hardware import autocast, pick_device
from theta_ml.training.presets import Hyper
from theta_ml.training.processes import any_of_all, is_first, least_of_all
from theta_ml.training.resources import Load, Memory, estimate, forward_arguments, room_for_one, trial_loss

FILE = "batch_size.json"
GIB = 1 << 30


@dataclass(frozen=True)
class BatchSize:
    """What a process computes at once."""

    rows_at_once: int
    gradient_checkpointing: bool
    memory_bytes: int
    """Estimated peak of the process that holds them."""


def choose(
    model: PreTrainedModel, load: Load, hyper: Hyper, folder: Path, frozen: Sequence[PreTrainedModel] = ()
) -> Hyper:
    """`hyper` with as many rows at once as this machine holds, and gradient checkpointing where it asks for that or
    memory does; the same in all processes, and in all attempts that share `folder`
    and have the memory for it.

    On a GPU the model is moved there, and they are tried. Raises StageFailed where nothing fits.
    """
    load = replace(load, gradient_checkpointing=hyper.gradient_checkpointing)
    choices, before = shares(hyper.rows_per_step, load.processes, hyper.rows_at_once), kept(folder)
    device = pick_device()
    room = room_for_one(device, load)
    if before is None or before.rows_at_once not in choices or any_of_all(before.memory_bytes > room):
        found = _agreed(find_batch_size(model, load, hyper.rows_per_step, room, hyper.rows_at_once, frozen))
        if device.type == "cuda" and not load.sharded:
            _onto(device, [model], load)
            found = _agreed(tried_out(model, found, load, choices, frozen))
        before = found
        if is_first():
            keep(folder, found)
    return replace(hyper, rows_at_once=before.rows_at_once, gradient_checkpointing=before.gradient_checkpointing)


def _agreed(found: BatchSize) -> BatchSize:
    return replace(
        found,
        rows_at_once=least_of_all(found.rows_at_once),
        gradient_checkpointing=any_of_all(found.gradient_checkpointing),
    )


def find_batch_size(
    model: PreTrainedModel,
    load: Load,
    rows_per_step: int,
    room: int,
    most: int | None = None,
    frozen: Sequence[PreTrainedModel] = (),
) -> BatchSize:
    """The largest divisor of a process's rows that fits into `room` bytes, with gradient checkpointing where `load`
    has it or not even one row does without it. `most` caps the rows at once.

    Raises StageFailed that says what to change where nothing fits.
    """
    choices = shares(rows_per_step, load.processes, most)
    tried: list[Memory] = []
    for checkpointing in sorted({load.gradient_checkpointing, True}):
        tried.append(estimate(model, replace(load, gradient_checkpointing=checkpointing), frozen))
        fitting = [rows for rows in choices if rows <= tried[-1].rows_in(room)]
        if fitting:
            return BatchSize(fitting[0], checkpointing, tried[-1].of(fitting[0]))
    raise StageFailed(_nothing_fits(tried[-1], room, load))


def shares(rows_per_step: int, processes: int, most: int | None = None) -> list[int]:
    """Rows at once that a process's part of a step divides into, largest first.

    Raises StageFailed where the processes cannot have equal parts.
    """
    if rows_per_step % processes:
        raise StageFailed(
            f"rows_per_step {rows_per_step} cannot be shared by {processes} processes: set THETA_TRAIN_PROCESSES to a "
            f"divisor of it, or rows_per_step to a multiple of {processes}"
        )
    part = rows_per_step // processes
    return [rows for rows in range(min(part, most or part), 0, -1) if part % rows == 0]


def tried_out(
    model: PreTrainedModel,
    found: BatchSize,
    load: Load,
    choices: Sequence[int],
    frozen: Sequence[PreTrainedModel] = (),
) -> BatchSize:
    """`found`, or the next smaller of `choices` that a GPU really holds beside the `frozen` models, which are moved
    there, with gradient checkpointing where not one row goes without; on a CPU there is nothing to try.

    Leaves the model, its gradients and the random state as they were. Raises StageFailed where not one row fits.
    """
    device = next(model.parameters()).device
    if device.type != "cuda":
        return found
    _onto(device, frozen, load)
    with torch.random.fork_rng(devices=[device]):
        held = largest(found, choices, lambda size: _holds(model, size, load, frozen))
    torch.cuda.empty_cache()
    if held is None:
        raise StageFailed(_gpu_full(device, load))
    return held


def largest(found: BatchSize, choices: Sequence[int], holds: Callable[[BatchSize], bool]) -> BatchSize | None:
    """The first that `holds`: of `found` and smaller choices, then of the same with gradient checkpointing."""
    for checkpointing in sorted({found.gradient_checkpointing, True}):
        for rows in (found.rows_at_once, *(rows for rows in choices if rows < found.rows_at_once)):
            size = replace(found, rows_at_once=rows, gradient_checkpointing=checkpointing)
            if holds(size):
                return size
    return None


def _holds(model: PreTrainedModel, size: BatchSize, load: Load, frozen: Sequence[PreTrainedModel]) -> bool:
    if size.gradient_checkpointing:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    try:
        forward_and_backward(model, size.rows_at_once, load, frozen)
        return True
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
    finally:
        if size.gradient_checkpointing:
            model.activation_checkpointing_disable()
    torch.cuda.empty_cache()  # outside of `except`, whose error keeps the tensors alive
    return False


def forward_and_backward(model: PreTrainedModel, rows: int, load: Load, frozen: Sequence[PreTrainedModel] = ()) -> None:
    """Beside as many bytes as the optimizer's moments will take, and what the `frozen` models say of the rows."""
    device = next(model.parameters()).device
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    moments = torch.empty(2 * sum(parameter.nbytes for parameter in learned), dtype=torch.uint8, device=device)
    batch = {name: value.to(device) for name, value in forward_arguments(model, rows, load).items()}
    try:
        with autocast(device):
            loss = trial_loss(model.train(), frozen, batch)
        loss.backward()
    finally:
        model.zero_grad(set_to_none=True)
        del moments


def _onto(device: torch.device, models: Sequence[PreTrainedModel], load: Load) -> None:
    try:
        for model in models:
            model.to(device)  # type: ignore[arg-type]  # the library's annotation of `to` is wrong
    except torch.OutOfMemoryError:
        raise StageFailed(_gpu_full(device, load)) from None


def kept(folder: Path) -> BatchSize | None:
    """What an earlier attempt of this training chose: what dropout drops depends on it, so a resume keeps to it."""
    try:
        return BatchSize(**json.loads((folder / FILE).read_text()))
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def keep(folder: Path, chosen: BatchSize) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(json.dumps(asdict(chosen)))


def _nothing_fits(least: Memory, room: int, load: Load) -> str:
    shard = "" if load.sharded else ", spread the model over several GPUs (THETA_TRAIN_SHARDING=full)"
    return (
        f"training needs about {least.of(1) / GIB:.1f} GiB of memory for a single row of {load.length} tokens, with "
        f"gradient checkpointing, and {room / GIB:.1f} are free: choose a smaller preset or base model, shorter rows, "
        f"adapters in place of all weights{shard}, or a machine with more memory"
    )


def _gpu_full(device: torch.device, load: Load) -> str:
    free, total = (size / GIB for size in torch.cuda.mem_get_info(device))
    return (
        f"the GPU has not the memory for a single row of {load.length} tokens: {free:.1f} of its {total:.1f} GiB are "
        f"free. End what else holds it (nvidia-smi), choose a smaller preset, base model or teacher, shorter rows, or "
        f"adapters in place of all weights"
    )
