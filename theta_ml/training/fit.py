"""Fits a model to rows: from where an earlier attempt ended, through what may go wrong, to the best weights."""

import copy
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel, TrainerCallback

from theta_ml.training.checkpoints import MODEL, Checkpoints, step_of
from theta_ml.training.guard import Diverged, Guard, last_good_step
from theta_ml.training.mirror import mirror
from theta_ml.training.presets import Hyper
from theta_ml.training.processes import any_of_all, is_first, world_size
from theta_ml.training.safe import SafeCheckpoints, Safety
from theta_ml.training.schedule import Plan
from theta_ml.training.stop import Stopped
from theta_ml.training.trainer import ThetaTrainer
from theta_ml.training.weights import restore_weights


class Countable(Protocol):
    """What a plan needs to know of rows."""

    @property
    def count(self) -> int: ...

    @property
    def max_length(self) -> int: ...


@dataclass
class Fit:
    """All that a training needs."""

    model: PreTrainedModel
    """As it starts; it ends with the best weights."""
    hyper: Hyper
    train: Countable
    """Rows of a corpus, or what the method takes in their place."""
    validation: Countable
    peak: float
    """Highest learning rate."""
    seed: int
    folder: Path
    """Where the checkpoints are; of this training alone."""
    stop: threading.Event = field(default_factory=threading.Event)
    """Set it, and the training writes a checkpoint and raises Stopped."""
    callbacks: list[TrainerCallback] = field(default_factory=list)
    """They hear of the training again from its beginning (`on_train_begin`) where the guard sends it back."""
    trainer: type[SafeCheckpoints] = ThetaTrainer
    """The method; it has `of(work, safety)`."""
    extra: dict[str, Any] = field(default_factory=dict)
    """What the method needs beside."""
    bfloat16: bool | None = None
    """Compute in bfloat16, with weights in float32; None: where the hardware has it."""
    sharded: bool = False
    """Where several processes train, each holds a part of the model (FSDP) rather than all of it."""
    log: Callable[[str], None] = lambda message: None
    """Hears what a person should read."""

    def plan(self) -> Plan:
        return Plan.of(self.hyper, self.train.count, self.peak)

    def repeats(self) -> bool:
        """Whether the rows are passed over so often that dropout is worth its price."""
        plan = self.plan()
        return plan.steps > self.hyper.dropout_passes * plan.steps_per_epoch


@dataclass(frozen=True)
class Fitted:
    """How it went. Losses are nats a token."""

    steps: int
    epochs: int
    """Passes begun over the rows."""
    best_step: int
    """Step whose weights the model has: the best on the validation rows."""
    best_validation_loss: float
    train_loss: float
    """Mean since the last validation but one, with dropout."""
    tokens_per_second: float
    """Without validations and checkpoints."""
    resumed_from: int | None
    """Step that an earlier attempt had come to."""
    rollbacks: int
    """Times that the training ran away and was sent back."""
    history: list[dict[str, Any]]
    """Lines of `step`, `time` and numbers by name."""


def fit(work: Fit) -> Fitted:
    """Raises Stopped, after a checkpoint, where it is asked to end, and StageFailed where it keeps running away.

    Where several processes share the model's parts, the first ends with a whole one in `work.model`.
    """
    whole = copy.deepcopy(work.model) if work.sharded and world_size() > 1 and is_first() else None
    if not work.repeats():
        disable_dropout(work.model)
    mirror(work.folder)
    checkpoints, guard = Checkpoints(work.folder), Guard.load(work.folder)
    newest = checkpoints.newest()
    resumed_from = step_of(newest) or None if newest else None
    while True:
        trainer = work.trainer.of(
            work, Safety(work.plan(), checkpoints, guard, work.stop, work.hyper.checkpoint_seconds)
        )
        try:
            _run(trainer, checkpoints)
            fitted = _fitted(trainer, resumed_from)
            if whole is not None:
                restore_weights(whole, load_file(checkpoints.best(fitted.best_step) / MODEL))
                work.model = whole
            return fitted
        except Diverged as reason:
            guard.back(reason, work.folder, work.peak)
            if is_first():
                checkpoints.forget_from(last_good_step(trainer.state.log_history))
            any_of_all(False)  # the others look when that is done
            mirror(work.folder)
            work.log(f"{reason}: back to the last good checkpoint, with the rate times {guard.scale:g}")


def disable_dropout(model: nn.Module) -> None:
    """But for that of adapters, which has none unless the recipe says so. The model's configuration stays: the next
    training decides anew."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout) and "lora_dropout" not in name:
            module.p = 0.0


def _run(trainer: SafeCheckpoints, checkpoints: Checkpoints) -> None:
    if checkpoints.newest() is None:
        if rank := trainer.args.process_index:
            torch.manual_seed(trainer.args.seed + rank)  # or dropout would drop the same places in all processes' rows
        trainer.save_start()
        mirror(checkpoints.root)
    try:
        trainer.train(str(checkpoints.newest()))
        trainer.load_best()
    except Stopped:
        trainer.save_stopped()
        raise
    finally:
        # Accelerate put a cast around the model's forward; the next trainer, or whoever saves it, wants it bare.
        trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)


def _fitted(trainer: SafeCheckpoints, resumed_from: int | None) -> Fitted:
    state, progress = trainer.state, trainer.progress
    assert state.best_global_step is not None and state.best_metric is not None
    validations = [line for line in state.log_history if "validation_loss" in line]
    return Fitted(
        steps=state.global_step,
        epochs=trainer.safety.plan.epoch(state.global_step),
        best_step=state.best_global_step,
        best_validation_loss=state.best_metric,
        train_loss=validations[-1]["epoch_train_loss"],
        tokens_per_second=progress.tokens / progress.seconds if progress.seconds else 0.0,
        resumed_from=resumed_from,
        rollbacks=trainer.safety.guard.rollbacks,
        history=state.log_history,
    )
