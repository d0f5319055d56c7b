"""The training loop, from top to bottom.

A loop of our own rather than Hugging Face's Trainer: the Trainer is no faster, and its checkpoints are written in
place, found by the highest number whether whole or not, and hold pickles; all three would have to be replaced, which
leaves little of it. Here a step is a function of (weights, moments, random state, step number) and nothing else, so
that a training that was killed ends with the weights of one that was not.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from theta_ml.corpus.rows import Rows
from theta_ml.model import ThetaForCausalLM
from theta_ml.stage import StageFailed
from theta_ml.training.batches import micro_batches, rows_of_step
from theta_ml.training.checkpoints import Checkpoints, Random
from theta_ml.training.hardware import autocast
from theta_ml.training.presets import Hyper
from theta_ml.training.progress import Progress
from theta_ml.training.schedule import Plan
from theta_ml.training.stop import Stopped, look

BETAS = (0.9, 0.95)  # a short memory of the gradient's size, as is usual for runs of few steps
LINES = 200
"""Lines of history that a training's steps are averaged into."""


@dataclass
class Training:
    """All that the loop needs."""

    model: ThetaForCausalLM
    optimizer: torch.optim.Optimizer
    hyper: Hyper
    plan: Plan
    train: Rows
    validation: Rows
    seed: int
    checkpoints: Checkpoints
    stop: threading.Event
    on_step: Callable[[Progress], None] = lambda progress: None
    """Hears of every step."""
    on_line: Callable[[Progress], None] = lambda progress: None
    """Hears of every new line of the history."""
    on_epoch: Callable[[Progress], None] = lambda progress: None
    """Hears of every epoch that was validated."""

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device


def make_optimizer(model: ThetaForCausalLM, hyper: Hyper) -> torch.optim.AdamW:
    """AdamW; the norms' weights do not decay."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": hyper.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.0, betas=BETAS, fused=True)


def fit(training: Training, progress: Progress) -> None:
    """Trains from `progress` to the plan's last step. Raises Stopped, after a checkpoint, where it is asked to end."""
    saved_at = time.monotonic()
    random = Random.now(training.device)
    try:
        while True:
            random = Random.now(training.device)
            ends = training.plan.ends_epoch(progress.step) and progress.evaluated_step < progress.step
            if ends:
                _end_epoch(training, progress)
            if ends or time.monotonic() - saved_at > training.hyper.checkpoint_seconds:
                training.checkpoints.save(training.model, training.optimizer, progress, random)
                saved_at = time.monotonic()
            if progress.step >= training.plan.steps:
                return
            _step(training, progress)
            training.on_step(progress)
    except Stopped:
        # Half a step leaves weights and progress as they were; the random state of its beginning goes with them.
        training.checkpoints.save(training.model, training.optimizer, progress, random)
        raise


def _step(training: Training, progress: Progress) -> None:
    started = time.perf_counter()
    chosen = rows_of_step(training.train.count, training.hyper.rows_per_step, training.seed, progress.step)
    rate = training.plan.rate(progress.step)
    for group in training.optimizer.param_groups:
        group["lr"] = rate
    training.model.train()
    loss = _accumulate(training, chosen)
    norm = torch.nn.utils.clip_grad_norm_(training.model.parameters(), training.hyper.clip)
    _require_finite(loss, norm, progress.step, training.plan.peak)
    training.optimizer.step()
    training.optimizer.zero_grad(set_to_none=True)
    progress.add(float(loss), len(chosen) * training.train.max_length, time.perf_counter() - started)
    _line(training, progress, rate, float(norm))


def _accumulate(training: Training, chosen: np.ndarray) -> Tensor:
    """Gradients of the step's rows, and their mean loss in nats: each labelled token weighs the same in all batches."""
    batches = list(micro_batches(training.train, chosen, training.hyper.rows_at_once))
    items = max(1, sum(batch.loss_tokens for batch in batches))
    total = torch.zeros((), device=training.device)
    for batch in batches:
        look(training.stop)
        here = batch.to(training.device)
        with autocast(training.device):
            output = training.model(
                input_ids=here.input_ids,
                position_ids=here.position_ids,
                labels=here.labels,
                num_items_in_batch=items,
            )
        assert output.loss is not None
        output.loss.backward()
        total += output.loss.detach()
    return total


def _require_finite(loss: Tensor, norm: Tensor, step: int, peak: float) -> None:
    for name, value in (("loss", float(loss)), ("gradient's norm", float(norm))):
        if not math.isfinite(value):
            raise StageFailed(
                f"the {name} became {value} at step {step + 1}: lower the peak learning rate of {peak:g} "
                f"(--set rate={peak / 3:.1g}), or look for damaged text in the snapshot"
            )


def _line(training: Training, progress: Progress, rate: float, norm: float) -> None:
    """Every so many steps, by the step's number, so that a resumed training writes the same lines."""
    every = max(1, training.plan.steps // LINES)
    if progress.step % every and progress.step != training.plan.steps:
        return
    progress.history.append(
        {
            "step": progress.step,
            "time": time.time(),
            "train_loss": progress.log_loss / progress.log_steps,
            "learning_rate": rate,
            "gradient_norm": norm,
            "tokens_per_second": progress.tokens_per_second,
        }
    )
    progress.log_loss, progress.log_steps = 0.0, 0
    training.on_line(progress)


def _end_epoch(training: Training, progress: Progress) -> None:
    """Scores the validation split; keeps the weights where they are the best so far."""
    loss = validation_loss(training)
    progress.evaluated_step = progress.step
    progress.epoch_train_loss = progress.epoch_loss / max(1, progress.epoch_steps)
    progress.epoch_loss, progress.epoch_steps = 0.0, 0
    progress.history.append(
        {
            "step": progress.step,
            "time": time.time(),
            "epoch": training.plan.epoch(progress.step),
            "validation_loss": loss,
            "epoch_train_loss": progress.epoch_train_loss,
        }
    )
    if progress.best_validation_loss is None or loss < progress.best_validation_loss:
        progress.best_validation_loss, progress.best_step = loss, progress.step
        training.checkpoints.save_best(training.model, progress.step)
    training.on_epoch(progress)


@torch.no_grad()
def validation_loss(training: Training) -> float:
    """Mean loss in nats over the labelled tokens of the first `validation_rows` rows, without dropout."""
    training.model.eval()
    rows = np.arange(min(training.validation.count, training.hyper.validation_rows))
    total, items = torch.zeros((), device=training.device), 0
    for batch in micro_batches(training.validation, rows, training.hyper.rows_at_once):
        look(training.stop)
        here = batch.to(training.device)
        with autocast(training.device):
            output = training.model(
                input_ids=here.input_ids, position_ids=here.position_ids, labels=here.labels, num_items_in_batch=1
            )
        assert output.loss is not None
        total, items = total + output.loss, items + batch.loss_tokens
    return float(total) / max(1, items)


def parameters(model: ThetaForCausalLM) -> int:
    """Tied weights count once."""
    return sum(parameter.numel() for parameter in model.parameters())
