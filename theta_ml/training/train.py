"""Stage `train`: a candidate, as its recipe says.

An attempt that was killed is resumed from its newest complete checkpoint, and ends with the same weights. Never are two
trainings alive at once on a machine: a second waits, and then finds the first one's work.
"""

import errno
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from theta_ml.champion import Champion
from theta_ml.stage import Inputs, Stage, StageFailed, Work
from theta_ml.store import DOCUMENT, MARKER, Artifact
from theta_ml.training.lock import training_lock
from theta_ml.training.presets import Preset
from theta_ml.training.recipe import DEFAULT, RecipeField, find_recipe
from theta_ml.training.resolving import for_training
from theta_ml.training.stop import EXIT_TERMINATED, Stopped, stop_on_sigterm

GIB = 1 << 30


@dataclass(frozen=True)
class TrainSpec:
    """How to train; what is None is as recipe and preset have it."""

    month: str
    """The run's month."""
    preset: str = "tiny"
    """`tiny` for a CPU, `base` for a GPU."""
    recipe: RecipeField = field(default_factory=lambda: find_recipe(DEFAULT))
    """Name of a recipe: where to start from, and what to change of the preset."""
    champion: Champion | None = None
    """Whose weights the recipe may start from, where preset and tokenizer are the same."""
    seed: int = 1
    """Random weights, the order of the rows, and what dropout drops."""
    epochs: int | None = None
    """Most passes over the corpus."""
    max_steps: int | None = None
    """Most optimizer steps."""
    rate: float | None = None
    """Peak learning rate."""

    def __post_init__(self) -> None:
        self.chosen()
        if self.rate is not None and not self.rate > 0:
            raise ValueError(f"rate is {self.rate}: choose more than 0, for example 5e-5")

    def chosen(self) -> Preset:
        """The recipe's preset with this spec's epochs and steps. Raises ValueError."""
        preset = self.recipe.preset_of(self.preset)
        given = {"epochs": self.epochs, "max_steps": self.max_steps}
        return replace(preset, hyper=preset.hyper.changed({k: v for k, v in given.items() if v is not None}))


@dataclass(frozen=True)
class TrainedModel:
    """The candidate. Losses are nats a token."""

    month: str
    preset: str
    start: str
    """`scratch`, `champion v3`, or `base openai-community/gpt2`."""
    parameters: int
    epochs: int
    """Passes begun over the corpus."""
    steps: int
    best_step: int
    """Step whose weights these are: the best on the validation split."""
    train_loss: float
    """Mean since the validation before the last, with dropout."""
    validation_loss: float
    """Of these weights."""
    tokens_per_second: float
    device: str
    resumed_from: int | None
    """Step of the checkpoint that the last attempt went on from."""
    recipe: str = DEFAULT
    rollbacks: int = 0
    """Times that the training ran away, and went on from a good checkpoint with half the rate."""
    overfitting: dict[str, Any] = field(default_factory=dict)
    """What the curves say about it: risk, level, reasons, recommendations."""


def train(spec: TrainSpec, inputs: Inputs, work: Work) -> TrainedModel:
    _require_preflight(inputs)
    with training_lock(work.settings.home, work.run_id, work.key, work.events, work.settings.train_node):
        finished = work.store.find("train", work.key)
        if finished:
            return _taken_over(finished, work)
        with stop_on_sigterm() as stop:
            try:
                model = _train(spec, inputs, work, stop)
            except Stopped:
                work.events.log("asked to end: a checkpoint is written, the next attempt goes on from it")
                raise SystemExit(EXIT_TERMINATED) from None
        _clear_checkpoints(work)
        return model


def _train(spec: TrainSpec, inputs: Inputs, work: Work, stop: threading.Event) -> TrainedModel:
    """Here, or in as many processes as there are GPUs, on as many machines as the settings say."""
    from theta_ml.training.processes import process_count

    processes = process_count(work.settings)
    if processes * work.settings.train_nodes > 1:
        from theta_ml.training.launch import train_together
        from theta_ml.training.nodes import await_artifact

        noun = train_together(spec, inputs, work, processes, stop)
        return TrainedModel(**noun) if noun else _taken_over(await_artifact(work, stop), work)
    model = train_here(spec, inputs, work, stop)
    assert model is not None
    return model


def train_here(spec: TrainSpec, inputs: Inputs, work: Work, stop: threading.Event) -> TrainedModel | None:
    """In this process, which may be one of several; the first of them has the candidate. Raises Stopped."""
    from theta_ml.training.candidate import make_candidate

    with _room_on_disk(work):
        return make_candidate(spec, inputs, work, stop)


@contextmanager
def _room_on_disk(work: Work) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        free = shutil.disk_usage(work.settings.home).free / GIB
        raise StageFailed(
            f"no space was left on the disk of {work.settings.home} ({free:.2f} GiB are free now) while the training "
            f"was saved: make room, or set THETA_HOME to another disk; the next attempt goes on from the last whole "
            f"checkpoint"
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
    from theta_ml.training.checkpoints import remove_others

    root = work.settings.home / "checkpoints"
    names = [folder.name for folder in root.iterdir()]
    remove_others(root, work.key, frozenset(name for name in names if work.store.find("train", name)))


STAGE = Stage("train", 3, TrainSpec, train, for_training)
