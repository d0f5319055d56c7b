"""Stage `preflight`: a look at the training before a GPU is booked for it.

In seconds: there must be rows enough for a step, a few of them must be learnable and stay finite, and memory, disk and
time must suffice. What does not hold fails the run, and says what to change.

The report's key names the corpus and the recipe and no machine, or another machine would train a model of its own. A
report that is found again may be of another day or another GPU: what the machine must have for it, the training looks
at once more (`look_again`, and `batch_size.choose` for memory).
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from theta_ml.champion import Champion
from theta_ml.corpus.prepare import PackedCorpus, open_rows
from theta_ml.corpus.rows import Rows
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, Stage, StageFailed, Work
from theta_ml.store import Artifact
from theta_ml.training.batch_size import GIB, BatchSize, find_batch_size
from theta_ml.training.checkpoints import Checkpoints, step_of
from theta_ml.training.hardware import name_of, pick_device
from theta_ml.training.methods import Method, method_of
from theta_ml.training.presets import Hyper
from theta_ml.training.recipe import DEFAULT, RecipeField, find_recipe
from theta_ml.training.resolving import for_training
from theta_ml.training.resources import Load, disk_bytes, free_disk, parameters, room_for_one
from theta_ml.training.schedule import Plan
from theta_ml.training.start import Start, start
from theta_ml.training.trial import STEPS, Trial, require_learnable, try_out

GPU_FLOPS = 40e12
"""Sustained by a data-centre GPU on a model this small, low rather than high; used where the GPU is busy and cannot be
asked."""


@dataclass(frozen=True)
class PreflightSpec:
    """What must hold before training."""

    month: str
    """The run's month."""
    preset: str = "tiny"
    """As training will have it."""
    recipe: RecipeField = field(default_factory=lambda: find_recipe(DEFAULT))
    """Name of the recipe that training will follow."""
    champion: Champion | None = None
    """Whose weights training will start from."""
    seed: int = 1
    """Random weights, and the rows that are tried."""
    max_hours: float = 24.0
    """Longest training that may begin."""

    def __post_init__(self) -> None:
        self.recipe.preset_of(self.preset)
        if not self.max_hours > 0:
            raise ValueError(f"max_hours is {self.max_hours}: choose more than 0")


@dataclass(frozen=True)
class PreflightReport:
    """What was found. Losses are nats a token."""

    month: str
    passed: bool
    sentence: str
    loss_first: float
    loss_last: float
    parameters: int
    rows_at_once: int
    """That memory holds, of the rows behind a step."""
    gradient_checkpointing: bool
    """Whether activations are computed twice: for that, or because the recipe says so."""
    estimated_memory_bytes: int
    available_memory_bytes: int
    """Of one process, at its peak; and what there is for it."""
    estimated_disk_bytes: int
    free_disk_bytes: int
    steps: int
    tokens_per_second: float
    """Measured in the trial; on a GPU that is busy, assumed from the model's size."""
    estimated_seconds: float
    device: str = ""
    """That the speed is of."""


@dataclass(frozen=True)
class _Room:
    """What the training takes, and what there is."""

    found: BatchSize
    memory: int
    disk: int
    free_disk: int


def preflight(spec: PreflightSpec, inputs: Inputs, work: Work) -> PreflightReport:
    corpus, packed = inputs.noun("prepare", PackedCorpus), inputs.artifact("prepare")
    preset, device = spec.recipe.preset_of(spec.preset), pick_device()
    require_gpu(work.settings, device)
    begun = start(spec.recipe, preset, spec.champion, corpus, packed.path, spec.seed, work.store, work.settings)
    method = method_of(spec.recipe, begun.model, spec.champion, corpus, packed, work.store)
    require_rows(method.train.count, preset.hyper.rows_per_step)
    load = Load.of(method.train, work.settings)
    room = _require_room(begun.model, load, preset.hyper, device, method.onlookers, work)
    count = parameters(begun.model)
    # Pairs are few, and in the corpus too: whether the model learns is seen on its rows.
    trial = _try_out(begun.model, open_rows(packed, "train", work.store), begun.peak, spec.seed, room, method.onlookers)
    require_learnable(trial)
    plan = Plan.of(preset.hyper, method.train.count, begun.peak)
    speed = trial.tokens_per_second
    if device.type == "cuda" and next(begun.model.parameters()).device.type != "cuda":
        speed = _assumed_speed(begun.model)
    seconds = _seconds(plan.steps, preset.hyper, corpus.max_length, load, speed)
    require_time(seconds, spec.max_hours)
    report = PreflightReport(
        month=spec.month,
        passed=True,
        sentence=f"the loss of a few rows fell from {trial.losses[0]:.2f} to {trial.losses[-1]:.2f} in {STEPS} steps",
        loss_first=trial.losses[0],
        loss_last=trial.losses[-1],
        parameters=count,
        rows_at_once=room.found.rows_at_once,
        gradient_checkpointing=room.found.gradient_checkpointing,
        estimated_memory_bytes=room.found.memory_bytes,
        available_memory_bytes=room.memory,
        estimated_disk_bytes=room.disk,
        free_disk_bytes=room.free_disk,
        steps=plan.steps,
        tokens_per_second=speed,
        estimated_seconds=seconds,
        device=name_of(device),
    )
    work.events.log(f"{report.sentence}; {plan.steps} steps will take about {seconds:.0f} s")
    return report


def look_again(
    report: Artifact,
    corpus: PackedCorpus,
    rows: Rows,
    begun: Start,
    method: Method,
    hyper: Hyper,
    folder: Path,
    work: Work,
) -> None:
    """Before the first step: whether there is disk and time for what is left of this training, here and now, with the
    steps that it was given. `rows` are the corpus's, and `folder` has its checkpoints. Raises StageFailed.
    """
    require_disk(begun.model, work.settings.home, folder)
    plan, newest = Plan.of(hyper, method.train.count, begun.peak), Checkpoints(folder).newest()
    left = plan.steps - (step_of(newest) if newest else 0)
    speed = _speed_here(report.document["value"], begun, rows, method.onlookers)
    seconds = _seconds(left, hyper, corpus.max_length, Load.of(method.train, work.settings), speed)
    require_time(seconds, report.document.get("spec", {}).get("max_hours", PreflightSpec.max_hours))


def _speed_here(report: dict[str, Any], begun: Start, rows: Rows, frozen: Sequence[PreTrainedModel]) -> float:
    """Tokens/s of one process: as the report has it where it was made on such a device."""
    device = pick_device()
    if report.get("device") == name_of(device):
        return float(report["tokens_per_second"])
    if device.type == "cuda":
        return _assumed_speed(begun.model)
    return try_out(copy.deepcopy(begun.model), rows, begun.peak, 1, frozen).tokens_per_second


def _assumed_speed(model: PreTrainedModel) -> float:
    return GPU_FLOPS / (6 * parameters(model))


def _seconds(steps: int, hyper: Hyper, length: int, load: Load, speed: float) -> float:
    """`speed`: tokens/s of one process; `length`: tokens of a row."""
    answers = 2 if load.pair else 1
    return answers * steps * hyper.rows_per_step * length / (speed * load.processes)


def require_disk(model: PreTrainedModel, home: Path, checkpoints: Path | None = None) -> tuple[int, int]:
    """Bytes that are needed beside what `checkpoints` holds already, and bytes that are free."""
    held = sum(file.stat().st_size for file in checkpoints.glob("*/*.safetensors")) if checkpoints else 0
    disk, free = max(0, disk_bytes(model) - held), free_disk(home)
    if disk > free:
        raise StageFailed(
            f"checkpoints need about {disk / GIB:.1f} GiB and {free / GIB:.1f} are free: make room, or set THETA_HOME "
            f"to another disk"
        )
    return disk, free


def require_gpu(settings: Settings, device: torch.device) -> None:
    if settings.require_gpu and device.type != "cuda":
        raise StageFailed(
            "no GPU is visible, and THETA_REQUIRE_GPU asks for one: look at the driver (nvidia-smi) and at "
            "CUDA_VISIBLE_DEVICES, or unset THETA_REQUIRE_GPU to train on the CPU"
        )


def require_rows(rows: int, rows_per_step: int) -> None:
    if rows < rows_per_step:
        raise StageFailed(
            f"the corpus has {rows} rows to train on, and a step takes {rows_per_step}: add datasets (theta data add), "
            f"land more conversations, or lower rows_per_step in the recipe's `hyper`"
        )


def require_time(seconds: float, max_hours: float) -> None:
    if seconds > max_hours * 3600:
        raise StageFailed(
            f"training would take about {seconds / 3600:.1f} h of the {max_hours:g} allowed: choose a smaller preset, "
            f"fewer epochs or max_steps in the recipe's `hyper`, or a larger max_hours"
        )


def _require_room(
    model: PreTrainedModel,
    load: Load,
    hyper: Hyper,
    device: torch.device,
    frozen: Sequence[PreTrainedModel],
    work: Work,
) -> _Room:
    memory = room_for_one(device, load)
    disk, free = require_disk(model, work.settings.home)
    load = replace(load, gradient_checkpointing=hyper.gradient_checkpointing)
    found = find_batch_size(model, load, hyper.rows_per_step, memory, hyper.rows_at_once, frozen)
    return _Room(found, memory, disk, free)


def _try_out(
    model: PreTrainedModel, rows: Rows, rate: float, seed: int, room: _Room, frozen: Sequence[PreTrainedModel]
) -> Trial:
    """On the GPU where it is idle, which also measures its speed; beside another training, on the CPU."""
    if torch.cuda.is_available() and torch.cuda.mem_get_info()[0] > room.found.memory_bytes:
        for each in (model, *frozen):
            each.to("cuda")  # type: ignore[arg-type]  # the library's annotation of `to` is wrong
    return try_out(model, rows, rate, seed, frozen)


STAGE = Stage("preflight", 2, PreflightSpec, preflight, for_training)
