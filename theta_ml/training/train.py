"""Stage `train`: the candidate, from the champion's weights or from scratch.

An attempt that was killed is resumed from its newest complete checkpoint, and ends with the same weights. Never are two
trainings alive at once on a machine: a second waits, and then finds the first one's work.
"""

import dataclasses
import json
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from theta_ml.champion import Champion
from theta_ml.corpus.prepare import PackedCorpus, open_rows
from theta_ml.stage import Inputs, Stage, StageFailed, Work
from theta_ml.store import DOCUMENT, MARKER, Artifact
from theta_ml.training.checkpoints import Checkpoints, remove_others
from theta_ml.training.hardware import Gauge, name_of, pick_device
from theta_ml.training.lock import training_lock
from theta_ml.training.loop import Training, fit, make_optimizer, parameters
from theta_ml.training.presets import Preset, find_preset
from theta_ml.training.progress import Progress
from theta_ml.training.reporting import EpochRow, EpochTable, LiveMetrics
from theta_ml.training.schedule import Plan
from theta_ml.training.start import Start, start
from theta_ml.training.stop import Stopped, stop_on_sigterm

SHOW_SECONDS = 0.5
EXIT_TERMINATED = 143


@dataclass(frozen=True)
class TrainSpec:
    """How to train; what is None is as the preset has it."""

    month: str
    """The run's month."""
    preset: str = "tiny"
    """`tiny` for a CPU, `base` for a GPU."""
    champion: Champion | None = None
    """Whose weights to start from, where preset and tokenizer are the same."""
    seed: int = 1
    """Random weights, the order of the rows, and what dropout drops."""
    epochs: int | None = None
    """Most passes over the corpus."""
    max_steps: int | None = None
    """Most optimizer steps."""
    rate: float | None = None
    """Peak learning rate."""

    def __post_init__(self) -> None:
        self.preset_of(find_preset(self.preset))
        if self.rate is not None and not self.rate > 0:
            raise ValueError(f"rate is {self.rate}: choose more than 0, for example 5e-5")

    def preset_of(self, preset: Preset) -> Preset:
        """The preset with this spec's epochs and steps."""
        hyper = preset.hyper
        if self.epochs is not None:
            hyper = dataclasses.replace(hyper, epochs=self.epochs)
        if self.max_steps is not None:
            hyper = dataclasses.replace(hyper, max_steps=self.max_steps)
        return dataclasses.replace(preset, hyper=hyper)


@dataclass(frozen=True)
class TrainedModel:
    """The candidate. Losses are nats a token."""

    month: str
    preset: str
    start: str
    """`scratch`, or `champion v3`."""
    parameters: int
    epochs: int
    """Passes begun over the corpus."""
    steps: int
    best_step: int
    """Step whose weights these are: the best on the validation split."""
    train_loss: float
    """Mean over the last epoch, with dropout."""
    validation_loss: float
    """Of these weights."""
    tokens_per_second: float
    device: str
    resumed_from: int | None
    """Step of the checkpoint that the last attempt went on from."""


def train(spec: TrainSpec, inputs: Inputs, work: Work) -> TrainedModel:
    corpus = inputs.noun("prepare", PackedCorpus)
    _require_preflight(inputs)
    with training_lock(work.settings.home, work.run_id, work.key, work.events):
        finished = work.store.find("train", work.key)
        if finished:
            return _taken_over(finished, work)
        with stop_on_sigterm() as stop:
            try:
                model = _train(spec, corpus, inputs.artifact("prepare"), work, stop)
            except Stopped:
                work.events.log("asked to end: a checkpoint is written, the next attempt goes on from it")
                raise SystemExit(EXIT_TERMINATED) from None
        _clear_checkpoints(work)
        return model


def _train(spec: TrainSpec, corpus: PackedCorpus, packed: Artifact, work: Work, stop: threading.Event) -> TrainedModel:
    preset = spec.preset_of(find_preset(spec.preset))
    begun = start(preset, spec.champion, corpus, packed.path, spec.seed, work.store)
    device = pick_device()
    begun.model.to(device)  # type: ignore[arg-type]  # the library's annotation of `to` is wrong
    rows = open_rows(packed, "train", work.store)
    plan = Plan.of(preset.hyper, rows.count, spec.rate or begun.peak)
    training = Training(
        model=begun.model,
        optimizer=make_optimizer(begun.model, preset.hyper),
        hyper=preset.hyper,
        plan=plan,
        train=rows,
        validation=open_rows(packed, "validation", work.store),
        seed=spec.seed,
        checkpoints=Checkpoints(work.settings.home / "checkpoints" / work.key),
        stop=stop,
    )
    progress = _resume(training, work)
    resumed_from = progress.step or None
    _announce(begun, training, work)
    if preset.hyper.compile and device.type == "cuda":
        begun.model.model.compile()  # the backbone; how many tokens bear loss, and so the head's shape, varies
    _run(spec, training, progress, work)
    return _finish(spec, begun, training, progress, resumed_from, packed.path, work)


def _resume(training: Training, work: Work) -> Progress:
    newest = training.checkpoints.newest()
    if newest is None:
        torch.manual_seed(training.seed)  # whatever building the model drew, the first step is the same
        return Progress()
    progress = training.checkpoints.load(newest, training.model, training.optimizer, training.device)
    work.events.log(f"going on from step {progress.step} of {training.plan.steps}, where an earlier attempt ended")
    return progress


def _announce(begun: Start, training: Training, work: Work) -> None:
    plan = training.plan
    work.events.log(
        f"training {parameters(begun.model):,} parameters from {begun.name} on {name_of(training.device)}: "
        f"{plan.steps} steps, {plan.steps_per_epoch} an epoch, peak rate {plan.peak:g}"
    )


def _run(spec: TrainSpec, training: Training, progress: Progress, work: Work) -> None:
    """The loop, with everybody told of what happens in it."""
    device = name_of(training.device)
    gauge = Gauge(training.device)
    table = EpochTable(work.settings, work.run_id, work.key, work.events.log)
    live = LiveMetrics(work.settings, work.run_id, spec.month, work.events.log)
    shown_at = 0.0

    def on_step(progress: Progress) -> None:
        nonlocal shown_at
        if time.monotonic() - shown_at < SHOW_SECONDS and progress.step < training.plan.steps:
            return
        shown_at = time.monotonic()
        gauge.sample()
        loss = progress.epoch_loss / progress.epoch_steps
        note = f"loss {loss:.2f}, {progress.tokens_per_second / 1000:.1f}k tokens/s"
        work.events.progress(progress.step, training.plan.steps, "steps", note)

    def on_line(progress: Progress) -> None:
        live.add(progress.history[-1])

    def on_epoch(progress: Progress) -> None:
        row = _epoch_row(training, progress, device, gauge)
        progress.history[-1].update({k: v for k, v in dataclasses.asdict(row.load).items() if v is not None})
        live.add(progress.history[-1])
        table.add(row)
        work.events.log(
            f"epoch {row.epoch}: train loss {row.train_loss:.3f}, validation loss {row.validation_loss:.3f}"
        )

    training.on_step, training.on_line, training.on_epoch = on_step, on_line, on_epoch
    try:
        fit(training, progress)
        table.close(training.stop)
    finally:
        if not training.stop.is_set():  # of the 5 seconds left, none is for MLflow
            live.close()


def _epoch_row(training: Training, progress: Progress, device: str, gauge: Gauge) -> EpochRow:
    assert progress.epoch_train_loss is not None
    return EpochRow(
        epoch=training.plan.epoch(progress.step),
        step=progress.step,
        train_loss=progress.epoch_train_loss,
        validation_loss=float(progress.history[-1]["validation_loss"]),
        learning_rate=training.plan.rate(progress.step - 1),
        tokens_per_second=progress.tokens_per_second,
        device=device,
        load=gauge.read(),
    )


def _finish(
    spec: TrainSpec,
    begun: Start,
    training: Training,
    progress: Progress,
    resumed_from: int | None,
    folder: Path,
    work: Work,
) -> TrainedModel:
    """Writes the best epoch's weights, the tokenizer and the history."""
    assert progress.best_step is not None and progress.best_validation_loss is not None
    assert progress.epoch_train_loss is not None
    training.checkpoints.load_best(begun.model, progress.best_step)
    begun.model.save_pretrained(work.path / "model")
    shutil.copytree(folder / "tokenizer", work.path / "model", dirs_exist_ok=True)
    lines = (json.dumps(line) for line in progress.history)
    (work.path / "history.jsonl").write_text("".join(line + "\n" for line in lines))
    return TrainedModel(
        month=spec.month,
        preset=spec.preset,
        start=begun.name,
        parameters=parameters(begun.model),
        epochs=training.plan.epoch(progress.step),
        steps=progress.step,
        best_step=progress.best_step,
        train_loss=progress.epoch_train_loss,
        validation_loss=progress.best_validation_loss,
        tokens_per_second=progress.tokens_per_second,
        device=name_of(training.device),
        resumed_from=resumed_from,
    )


def _require_preflight(inputs: Inputs) -> None:
    report = inputs.artifact("preflight").document["value"]
    if not report["passed"]:
        raise StageFailed(f"preflight did not pass: {report['sentence']}")


def _taken_over(finished: Artifact, work: Work) -> TrainedModel:
    """Another attempt trained this very model while we waited: its files are ours."""
    work.events.log(f"found {finished.uri}, which the other training made")
    ignore = shutil.ignore_patterns(DOCUMENT, MARKER)
    shutil.copytree(finished.path, work.path, dirs_exist_ok=True, ignore=ignore)
    return TrainedModel(**finished.document["value"])


def _clear_checkpoints(work: Work) -> None:
    """Those of earlier trainings that are finished. This one's stay until its artifact is in place."""
    root = work.settings.home / "checkpoints"
    names = [folder.name for folder in root.iterdir()]
    remove_others(root, work.key, frozenset(name for name in names if work.store.find("train", name)))


STAGE = Stage("train", 1, TrainSpec, train)
