"""What makes any of the library's trainers safe to leave alone: checkpoints of ours, exact resume, a guard, SIGTERM.

Mended, because the Trainer writes its checkpoints in place, picks the highest number whether whole or not, keeps
optimizer and random state as pickles, and forgets the sums of the line it was in the middle of.
"""

import dataclasses
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState, PrinterCallback

from theta_ml.training import guard
from theta_ml.training.checkpoints import MODEL, OPTIMIZER, PROGRESS, STATE, Checkpoints
from theta_ml.training.guard import Guard
from theta_ml.training.mirror import mirror
from theta_ml.training.processes import any_of_all
from theta_ml.training.progress import Progress
from theta_ml.training.random_state import RandomState
from theta_ml.training.schedule import Plan
from theta_ml.training.sharding import shard_on_cpu
from theta_ml.training.stop import look
from theta_ml.training.weights import moments, restore_moments, restore_weights, weights

if TYPE_CHECKING:
    from theta_ml.training.fit import Fit

LINE_NAMES = {"loss": "train_loss", "grad_norm": "gradient_norm"}
"""The library's names of numbers, and ours."""


@dataclass(frozen=True)
class Safety:
    """What a safe trainer needs beside the library's arguments."""

    plan: Plan
    checkpoints: Checkpoints
    guard: Guard
    stop: threading.Event
    checkpoint_seconds: float


@dataclass(frozen=True)
class _Begin:
    """As it was before a step, for a step that is given up half-way."""

    step: int
    random: RandomState
    line_loss: Tensor
    epoch_loss: Tensor


class PlannedRate(LRScheduler):
    """The plan's rate, which depends on the step alone, times the guard's scale."""

    def __init__(self, optimizer: torch.optim.Optimizer, plan: Plan, scale: float) -> None:
        self.plan, self.scale = plan, scale
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        return [self.scale * self.plan.rate(self.last_epoch) for _ in self.optimizer.param_groups]

    def go_to(self, step: int) -> None:
        self.last_epoch = step
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = rate
        self._last_lr = self.get_lr()


class _Rhythm(TrainerCallback):
    """Says when to write a line and a checkpoint; the library's own callback says when to validate."""

    def __init__(self, trainer: "SafeCheckpoints") -> None:
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.trainer.resume_sums()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_log = True
        if self.trainer.is_checkpoint_due():
            control.should_save = True


class SafeCheckpoints(Trainer):
    """Stands before a trainer of the library among a class's bases.

    Its sub-class is made with `safety` set before the first call of `train`, and `train(checkpoint)` given what
    `Checkpoints.newest` found. Stopped, Diverged and OSError come out of `train`; after Stopped call `save_stopped`.
    """

    safety: Safety
    model: nn.Module
    lr_scheduler: Any

    @classmethod
    def of(cls, work: "Fit", safety: Safety) -> Self:
        """The trainer for this work, made safe."""
        raise NotImplementedError

    def make_safe(self, safety: Safety) -> None:
        """Call it once the trainer is made."""
        self.safety = safety
        self.progress = Progress()
        self._begin: _Begin | None = None
        self._resumed_from: str | None = None
        self._epoch_loss = torch.zeros((), device=self.args.device)
        self._highest_norm = torch.zeros((), device=self.args.device)
        self._counted_step = 0
        self._mark = self._saved_at = time.perf_counter()
        self.remove_callback(PrinterCallback)
        self.add_callback(_Rhythm(self))

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        if self.args.fsdp and not self.is_fsdp_enabled:
            shard_on_cpu(self.accelerator, self.args)
            self.is_fsdp_enabled = True

    # The step

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> Any:
        self._note_begin()
        return super().get_batch_samples(epoch_iterator, num_batches, device)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        look(self.safety.stop)
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._epoch_loss += loss
        return loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        if isinstance(norm, Tensor):
            self._highest_norm = torch.maximum(self._highest_norm, norm.detach())  # what is no number stays so
        return norm

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        return 0  # counting parameters anew for each batch takes longer than it tells

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LRScheduler:
        if self.lr_scheduler is None:
            self.lr_scheduler = PlannedRate(
                optimizer or self._plain_optimizer(), self.safety.plan, self.safety.guard.scale
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        if self.state.global_step >= self.state.max_steps or self.progress.finished:
            self.control.should_training_stop = True  # an earlier attempt got this far
            return
        super()._run_epoch(*args, **kwargs)

    # Lines of the history

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """A line of the history: `step`, `time` and numbers by name. The guard looks at it before anybody else."""
        if "loss" not in logs and "validation_loss" not in logs:
            return  # the library's summary
        line: dict[str, Any] = {"step": self.state.global_step, "time": time.time()}
        line |= {LINE_NAMES.get(name, name): value for name, value in logs.items()}
        if "loss" in logs:
            line["tokens_per_second"] = self._count()
            self.progress.line_step = self.state.global_step
            guard.require_finite("gradient's norm", float(self._highest_norm), self.state.global_step)
        self.state.log_history.append(line)
        guard.look_at(self.state.log_history)
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, line)

    def _evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        random = RandomState.now(self.args.device)
        try:
            return super()._evaluate(*args, **kwargs)
        finally:
            random.restore(self.args.device)  # making a loader draws a number: validating must not change the training

    def validated(self, loss: float) -> dict[str, float]:
        """Writes the validation's line and says its metric as the library knows it."""
        steps = max(1, self.state.global_step - self.progress.epoch_step)
        epoch_loss = float(self._mean(self._epoch_loss)) / steps
        self._epoch_loss.zero_()
        self.progress.epoch_step, self.progress.validation_due = self.state.global_step, False
        epoch = self.safety.plan.epoch(self.state.global_step)
        self.log({"epoch": epoch, "validation_loss": loss, "epoch_train_loss": epoch_loss})
        metrics = {"eval_loss": loss}
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self._mark = time.perf_counter()
        return metrics

    def tokens_of(self, first: int, last: int) -> int:
        """Tokens in the steps after `first` up to `last`; 0 where nobody knows."""
        return 0

    def _count(self) -> float:
        """Adds the tokens since the last look and the time that they took; tokens/s of that time."""
        now = time.perf_counter()
        tokens, seconds = self.tokens_of(self._counted_step, self.state.global_step), now - self._mark
        self.progress.tokens, self.progress.seconds = self.progress.tokens + tokens, self.progress.seconds + seconds
        self._counted_step, self._mark = self.state.global_step, now
        return tokens / max(seconds, 1e-9)

    # Checkpoints

    def is_checkpoint_due(self) -> bool:
        # The processes' clocks differ, and all take part in a checkpoint.
        return any_of_all(time.perf_counter() - self._saved_at > self.safety.checkpoint_seconds)

    def save_start(self) -> None:
        """Where to go back to if the first steps run away; call it before `train` where there is no checkpoint."""
        tensors = {MODEL: weights(self.model), OPTIMIZER: {}}
        self.state.compute_steps(self.args, self.safety.plan.steps)
        self.state.train_batch_size = self._train_batch_size
        self._write(0, tensors, self._of_all(RandomState.now(self.args.device)), Progress(), self.state)

    def save_stopped(self) -> None:
        """After Stopped: a step that was given up half-way is done again from its beginning."""
        begin = self._begin
        self.progress.validation_due = (
            self.control.should_evaluate and self.progress.epoch_step < self.state.global_step
        )
        if begin is not None and begin.step == self.state.global_step:
            self._tr_loss, self._epoch_loss = begin.line_loss, begin.epoch_loss
            self.progress.validation_due = False
            self._save_now(begin.random)
        else:
            self._save_now(RandomState.now(self.args.device))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        if guard.is_leaping(self.state.log_history):
            return  # the next line says whether this is the state of a spike
        guard.require_finite("loss", float(self._mean(self._tr_loss)), self.state.global_step)
        guard.require_finite("gradient's norm", float(self._highest_norm), self.state.global_step)
        self._count()
        self._save_now(RandomState.now(self.args.device))
        self._mark = time.perf_counter()

    def _save_now(self, random: RandomState) -> None:
        """All processes take part; the first writes."""
        tensors = {
            MODEL: weights(self.model),
            OPTIMIZER: moments(self.model, self._plain_optimizer()),
        }
        progress = dataclasses.replace(
            self.progress,
            line_loss=float(self._mean(self._tr_loss)),
            epoch_loss=float(self._mean(self._epoch_loss)),
            finished=self.state.global_step >= self.state.max_steps or self.control.should_training_stop,
        )
        self._write(self.state.global_step, tensors, self._of_all(random), progress, self.state)
        self._saved_at = time.perf_counter()

    def _write(
        self,
        step: int,
        tensors: dict[str, dict[str, Tensor]],
        random: list[RandomState],
        progress: Progress,
        state: TrainerState,
    ) -> None:
        exported = cast(dict[str, Any], state.stateful_callbacks)
        for callback in self._exportable():
            exported[type(callback).__name__] = callback.state()
        if self.is_world_process_zero():
            numbered = {_random_file(rank): each.tensors for rank, each in enumerate(random)}
            words = {PROGRESS: progress.to_json(), STATE: json.dumps(dataclasses.asdict(state))}
            self.safety.checkpoints.save(step, tensors | numbered, words)
        self.accelerator.wait_for_everyone()

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        best = super()._determine_best_metric(metrics, trial)
        if best:
            best_weights = weights(self.model)
            if self.is_world_process_zero():
                self.safety.checkpoints.save_best(self.state.global_step, best_weights)
            self.accelerator.wait_for_everyone()
        return best

    # Resume

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        saved = load_file(Path(resume_from_checkpoint) / MODEL)
        restore_weights(model or self.model, saved)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        self._resumed_from = checkpoint
        self.progress = Progress.from_json((Path(checkpoint) / PROGRESS).read_text())
        saved = load_file(Path(checkpoint) / OPTIMIZER)
        restore_moments(self.model, self._plain_optimizer(), saved)
        self.lr_scheduler.go_to(self.state.global_step)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        file = Path(checkpoint) / _random_file(self.args.process_index)
        if file.exists():
            RandomState(load_file(file)).restore(self.args.device)
        else:  # there were fewer processes: each new one drops other places than the rest, and than before
            seeds = np.random.SeedSequence([self.args.seed, self.state.global_step, self.args.process_index])
            torch.manual_seed(int(seeds.generate_state(1)[0]))
        self._note_begin()

    def _load_scaler(self, checkpoint: str | None) -> None:
        """There is none: bfloat16 needs no scaling."""

    def _load_callback_state(self) -> None:
        exported = cast(dict[str, Any], self.state.stateful_callbacks)
        for callback in self._exportable():
            if callback is not self.control:
                stored = exported.get(type(callback).__name__, {})
                for name, value in stored.get("attributes", {}).items():
                    setattr(callback, name, value)

    def _load_best_model(self) -> None:
        """The library does so only where a checkpoint of its own is the best: see `load_best`."""

    def load_best(self) -> None:
        """Call it after `train`, in all processes."""
        if self.state.best_global_step is not None:
            mirror(self.safety.checkpoints.root)
            saved = load_file(self.safety.checkpoints.best(self.state.best_global_step) / MODEL)
            restore_weights(self.model, saved)

    def resume_sums(self) -> None:
        """What the library forgets; and the validation that an earlier attempt was cut short in."""
        self._tr_loss.fill_(self.progress.line_loss)
        self._epoch_loss.fill_(self.progress.epoch_loss)
        self._globalstep_last_logged = self.progress.line_step
        self._counted_step = self.state.global_step
        self._mark = self._saved_at = time.perf_counter()
        if self.progress.validation_due:
            self._load_rng_state(self._resumed_from)
            self.control.should_evaluate = self.control.should_save = True
            self._maybe_log_save_evaluate(self._tr_loss, None, self.model_wrapped, None, self.state.epoch, None, 0.0)

    def _note_begin(self) -> None:
        self._begin = _Begin(
            self.state.global_step, RandomState.now(self.args.device), self._tr_loss.clone(), self._epoch_loss.clone()
        )

    def _exportable(self) -> list[Any]:
        return [c for c in (*self.callback_handler.callbacks, self.control) if isinstance(c, ExportableState)]

    def _plain_optimizer(self) -> torch.optim.Optimizer:
        """Without what Accelerate wraps it in."""
        optimizer: Any = self.optimizer
        return cast(torch.optim.Optimizer, getattr(optimizer, "optimizer", optimizer))

    def _mean(self, value: Tensor) -> Tensor:
        """Over the processes."""
        mean: Tensor = self.accelerator.reduce(value.clone(), reduction="mean")
        return mean

    def _of_all(self, random: RandomState) -> list[RandomState]:
        """Of all processes, in their order."""
        if self.args.world_size == 1:
            return [random]
        from accelerate.utils import gather_object

        return list(gather_object([random]))


def _random_file(rank: int) -> str:
    return f"random-{rank}.safetensors"
