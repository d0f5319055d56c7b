"""Stage `preflight`: a look at the training before a GPU is booked for it.

On the CPU, in seconds: a few rows must be learnable and stay finite, and memory, disk and time must suffice.
"""

import math
import time
from dataclasses import dataclass

import numpy as np
import torch

from theta_ml.champion import Champion
from theta_ml.corpus.prepare import PackedCorpus, open_rows
from theta_ml.corpus.rows import Rows
from theta_ml.model import ThetaForCausalLM
from theta_ml.stage import Inputs, Stage, StageFailed, Work
from theta_ml.training.batches import Batch, make_batch
from theta_ml.training.hardware import autocast, pick_device
from theta_ml.training.loop import BETAS, parameters
from theta_ml.training.presets import Preset, find_preset
from theta_ml.training.resources import GPU_FLOPS, available_memory, free_disk, needs
from theta_ml.training.schedule import Plan
from theta_ml.training.start import start

STEPS = 20
ROWS = 4
STEP_FLOPS = 2e11
"""Most work of a step here: a large model sees shortened rows, so that the look stays short on a CPU."""
FALL = 0.95
"""The loss must fall below this share of what it was."""


@dataclass(frozen=True)
class PreflightSpec:
    """What must hold before training."""

    month: str
    """The run's month."""
    preset: str = "tiny"
    """As training will have it."""
    champion: Champion | None = None
    """Whose weights training will start from."""
    seed: int = 1
    """Random weights, and the rows that are tried."""
    max_hours: float = 24.0
    """Longest training that may begin."""

    def __post_init__(self) -> None:
        find_preset(self.preset)
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
    estimated_memory_bytes: int
    available_memory_bytes: int
    estimated_seconds: float
    free_disk_bytes: int


@dataclass(frozen=True)
class _Trial:
    losses: list[float]
    tokens_per_second: float


def preflight(spec: PreflightSpec, inputs: Inputs, work: Work) -> PreflightReport:
    corpus, folder = inputs.noun("prepare", PackedCorpus), inputs.path("prepare")
    preset, device = find_preset(spec.preset), pick_device()
    begun = start(preset, spec.champion, corpus, folder, spec.seed, work.store)
    count = parameters(begun.model)
    trial = try_out(
        begun.model, open_rows(inputs.artifact("prepare"), "train", work.store), preset.recipe.rate_scratch, spec.seed
    )
    plan = Plan.of(preset.recipe, corpus.sequences["train"], begun.peak)
    tokens = plan.steps * preset.recipe.rows_per_step * corpus.max_length
    rate = trial.tokens_per_second if device.type == "cpu" else GPU_FLOPS / (6 * count)
    required = needs(preset, count, corpus.vocabulary, corpus.max_length)
    report = PreflightReport(
        month=spec.month,
        passed=True,
        sentence=f"the loss of a few rows fell from {trial.losses[0]:.2f} to {trial.losses[-1]:.2f} in {STEPS} steps",
        loss_first=trial.losses[0],
        loss_last=trial.losses[-1],
        parameters=count,
        estimated_memory_bytes=required.memory_bytes,
        available_memory_bytes=available_memory(device),
        estimated_seconds=tokens / rate,
        free_disk_bytes=free_disk(work.settings.home),
    )
    _require_learnable(trial)
    _require_room(report, required.disk_bytes, spec, preset)
    work.events.log(f"{report.sentence}; {plan.steps} steps will take about {report.estimated_seconds:.0f} s")
    return report


def try_out(model: ThetaForCausalLM, rows: Rows, rate: float, seed: int) -> _Trial:
    """Learns a few rows by heart, without dropout. Changes the model."""
    chosen = np.random.default_rng(seed).permutation(rows.count)[:ROWS]
    batch = _shorten(make_batch(rows, np.sort(chosen)), parameters(model))
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=BETAS, fused=True)
    model.eval()
    losses: list[float] = []
    started = time.perf_counter()
    for step in range(STEPS):
        if step == 1:
            started = time.perf_counter()  # the first step also sets things up
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 5)
        losses.append(_try_step(model, optimizer, batch))
    seconds = time.perf_counter() - started
    return _Trial(losses, (STEPS - 1) * batch.input_ids.numel() / seconds)


def _try_step(model: ThetaForCausalLM, optimizer: torch.optim.Optimizer, batch: Batch) -> float:
    with autocast(torch.device("cpu")):
        output = model(input_ids=batch.input_ids, position_ids=batch.position_ids, labels=batch.labels)
    assert output.loss is not None
    output.loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(output.loss.detach())


def _shorten(batch: Batch, parameters: int) -> Batch:
    """As many tokens as STEP_FLOPS allow, at 6 operations for a parameter and token."""
    tokens = int(STEP_FLOPS / (6 * parameters))
    rows, length = batch.input_ids.shape
    rows = max(1, min(rows, tokens // length))
    length = max(64, min(length, tokens // rows))
    return Batch(*(x[:rows, :length] for x in (batch.input_ids, batch.position_ids, batch.labels)))


def _require_learnable(trial: _Trial) -> None:
    first, last = trial.losses[0], trial.losses[-1]
    if not all(map(math.isfinite, trial.losses)):
        step = next(number for number, loss in enumerate(trial.losses, 1) if not math.isfinite(loss))
        raise StageFailed(
            f"the loss was {trial.losses[step - 1]} at step {step} of the trial: the starting weights are damaged, or "
            f"the preset's rate is too high; roll back to an older champion, or lower the rate in training/presets.py"
        )
    if last > FALL * first:
        raise StageFailed(
            f"a few rows could not be learned: their loss went from {first:.3f} to {last:.3f} in {STEPS} steps. "
            f"Look at the snapshot's conversations (is there text in them?) and at the champion training starts from"
        )


def _require_room(report: PreflightReport, disk_bytes: int, spec: PreflightSpec, preset: Preset) -> None:
    gib = 1 << 30
    if report.estimated_memory_bytes > report.available_memory_bytes:
        raise StageFailed(
            f"training needs about {report.estimated_memory_bytes / gib:.1f} GiB of memory and "
            f"{report.available_memory_bytes / gib:.1f} are free: choose a smaller preset, or lower rows_at_once "
            f"({preset.recipe.rows_at_once}) in training/presets.py"
        )
    if disk_bytes > report.free_disk_bytes:
        raise StageFailed(
            f"checkpoints need about {disk_bytes / gib:.1f} GiB and {report.free_disk_bytes / gib:.1f} are free: make "
            f"room, or set THETA_HOME to another disk"
        )
    if report.estimated_seconds > spec.max_hours * 3600:
        raise StageFailed(
            f"training would take about {report.estimated_seconds / 3600:.1f} h of the {spec.max_hours:g} allowed: "
            f"choose a smaller preset, fewer steps in training/presets.py, or a larger max_hours"
        )


STAGE = Stage("preflight", 1, PreflightSpec, preflight)
