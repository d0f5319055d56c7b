"""Stage `train`: the candidate, from the champion's weights or from scratch.

An attempt that was killed is resumed from its newest complete checkpoint, and ends with the same weights. Never are two
trainings alive at once on a machine: a second waits, and then finds the first one's work.
"""

import dataclasses
import errno
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from theta_ml.champion import Champion
from theta_ml.corpus.prepare import PackedCorpus, open_rows
from theta_ml.corpus.rows import Rows
from theta_ml.stage import Inputs, Stage, StageFailed, Work
from theta_ml.store import DOCUMENT, MARKER, Artifact
from theta_ml.training.checkpoints import Checkpoints, remove_others, step_of
from theta_ml.training.fit import Fit, Fitted, fit
from theta_ml.training.hardware import Gauge, name_of, pick_device
from theta_ml.training.lock import training_lock
from theta_ml.training.presets import Hyper, Preset, find_preset
from theta_ml.training.recipe import DEFAULT, find_recipe
from theta_ml.training.resources import free_disk, parameters
from theta_ml.training.start import Start, start
from theta_ml.training.stop import Stopped, stop_on_sigterm
from theta_ml.training.told import Told

GIB = 1 << 30
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
    rollbacks: int = 0
    """Times that the training ran away, and went on from a good checkpoint with half the rate."""


def train(spec: TrainSpec, inputs: Inputs, work: Work) -> TrainedModel:
    corpus = inputs.noun("prepare", PackedCorpus)
    _require_preflight(inputs)
    with training_lock(work.settings.home, work.run_id, work.key, work.events):
        finished = work.store.find("train", work.key)
        if finished:
            return _taken_over(finished, work)
        with stop_on_sigterm() as stop:
            try:
                with _room_on_disk(work.settings.home):
                    model = _train(spec, corpus, inputs.artifact("prepare"), work, stop)
            except Stopped:
                work.events.log("asked to end: a checkpoint is written, the next attempt goes on from it")
                raise SystemExit(EXIT_TERMINATED) from None
        _clear_checkpoints(work)
        return model


def _train(spec: TrainSpec, corpus: PackedCorpus, packed: Artifact, work: Work, stop: threading.Event) -> TrainedModel:
    preset, device = spec.preset_of(find_preset(spec.preset)), pick_device()
    _require_gpu(device, work)
    rows = open_rows(packed, "train", work.store)
    _require_rows(rows, preset.hyper)
    begun = start(
        find_recipe(DEFAULT), preset, spec.champion, corpus, packed.path, spec.seed, work.store, work.settings
    )
    _require_vocabulary(begun, corpus)
    told = Told(work, spec.month, Gauge(device))
    training = Fit(
        model=begun.model,
        hyper=preset.hyper,
        train=rows,
        validation=open_rows(packed, "validation", work.store),
        peak=spec.rate or begun.peak,
        seed=spec.seed,
        folder=work.settings.home / "checkpoints" / work.key,
        stop=stop,
        callbacks=[told],
        log=work.events.log,
    )
    _announce(begun, training, device, work)
    try:
        fitted = fit(training)
        told.finish(stop)
    finally:
        if not stop.is_set():  # of the 5 seconds left, none is for MLflow
            told.close()
    return _finish(spec, begun, fitted, packed.path, work)


def _announce(begun: Start, training: Fit, device: torch.device, work: Work) -> None:
    plan = training.plan()
    newest = Checkpoints(training.folder).newest()
    if newest and step_of(newest):
        work.events.log(f"going on from step {step_of(newest)} of {plan.steps}, where an earlier attempt ended")
    work.events.log(
        f"training {parameters(begun.model):,} parameters from {begun.name} on {name_of(device)}: "
        f"{plan.steps} steps, {plan.steps_per_epoch} an epoch, peak rate {plan.peak:g}"
    )


def _finish(spec: TrainSpec, begun: Start, fitted: Fitted, folder: Path, work: Work) -> TrainedModel:
    """Writes the best validation's weights, the tokenizer and the history."""
    begun.model.save_pretrained(work.path / "model")
    shutil.copytree(folder / "tokenizer", work.path / "model", dirs_exist_ok=True)
    lines = (json.dumps(line) for line in fitted.history)
    (work.path / "history.jsonl").write_text("".join(line + "\n" for line in lines))
    return TrainedModel(
        month=spec.month,
        preset=spec.preset,
        start=begun.name,
        parameters=parameters(begun.model),
        epochs=fitted.epochs,
        steps=fitted.steps,
        best_step=fitted.best_step,
        train_loss=fitted.train_loss,
        validation_loss=fitted.best_validation_loss,
        tokens_per_second=fitted.tokens_per_second,
        device=name_of(pick_device()),
        resumed_from=fitted.resumed_from,
        rollbacks=fitted.rollbacks,
    )


def _require_gpu(device: torch.device, work: Work) -> None:
    if work.settings.require_gpu and device.type != "cuda":
        raise StageFailed(
            "no GPU is visible and THETA_REQUIRE_GPU is set: free one (nvidia-smi, CUDA_VISIBLE_DEVICES), or unset it "
            "to train on the CPU"
        )


def _require_rows(rows: Rows, hyper: Hyper) -> None:
    if rows.count < hyper.rows_per_step:
        raise StageFailed(
            f"the corpus has {rows.count} rows to train on and a step takes {hyper.rows_per_step}: choose more months "
            f"or data sets, a smaller preset, or fewer rows_per_step in the recipe's hyper-parameters"
        )


def _require_vocabulary(begun: Start, corpus: PackedCorpus) -> None:
    known = begun.model.config.vocab_size
    if known < corpus.vocabulary:
        raise StageFailed(
            f"{begun.name} knows {known} tokens and the corpus was packed with {corpus.vocabulary}: pack it with that "
            f"model's tokenizer, or start from another model"
        )


@contextmanager
def _room_on_disk(home: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise StageFailed(
            f"no space left under {home} ({free_disk(home) / GIB:.2f} GiB are free) while the training was saved: make "
            f"room, or set THETA_HOME to another disk; the next attempt goes on from the last whole checkpoint"
        ) from None


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


STAGE = Stage("train", 2, TrainSpec, train)
