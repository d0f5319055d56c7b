"""Makes a candidate: from where its recipe starts, by the recipe's method, under oversight."""

import json
import os
import shutil
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from theta_ml.corpus.prepare import PackedCorpus, open_rows
from theta_ml.stage import Inputs, StageFailed, Work
from theta_ml.training.adapters import merged
from theta_ml.training.batch_size import choose
from theta_ml.training.checkpoints import Checkpoints, step_of
from theta_ml.training.fit import Fit, Fitted, fit
from theta_ml.training.hardware import name_of, pick_device
from theta_ml.training.lock import checkpoints_lock
from theta_ml.training.methods import Method, method_of
from theta_ml.training.mirror import mirror
from theta_ml.training.oversight.course import Subject
from theta_ml.training.oversight.watch import Oversight, callbacks
from theta_ml.training.preflight import look_again, require_gpu, require_rows
from theta_ml.training.presets import Hyper
from theta_ml.training.processes import is_first, world_size
from theta_ml.training.resources import Load, parameters
from theta_ml.training.start import Start, start
from theta_ml.training.stop import Stopped
from theta_ml.training.train import TrainedModel, TrainSpec

COMPILE_CACHE = "TORCHINDUCTOR_CACHE_DIR"


@dataclass(frozen=True)
class _Candidate:
    """All there is before the first step."""

    spec: TrainSpec
    corpus: PackedCorpus
    tokenizer: Path
    begun: Start
    method: Method
    hyper: Hyper
    work: Work
    device: torch.device


def make_candidate(spec: TrainSpec, inputs: Inputs, work: Work, stop: threading.Event) -> TrainedModel | None:
    """Trains in this process, and writes the model where this process is the first. Raises Stopped and StageFailed."""
    os.environ.setdefault(COMPILE_CACHE, str(work.settings.home / "compile-cache"))
    with checkpoints_lock(checkpoints_of(work), stop, work.events.log):
        mirror(checkpoints_of(work))
        return _make(_prepare(spec, inputs, work), stop)


def _make(candidate: _Candidate, stop: threading.Event) -> TrainedModel | None:
    training = _training(candidate, stop)
    if not is_first():
        fit(training)
        return None
    _announce(candidate, training)
    with _oversight(candidate, stop) as oversight:
        training.callbacks += callbacks(oversight)
        try:
            fitted = fit(training)
        except Stopped:
            if oversight.stopped:
                raise StageFailed(oversight.stopped) from None
            raise
        return _finish(candidate, training, fitted, asdict(oversight.overfitting()))


def _prepare(spec: TrainSpec, inputs: Inputs, work: Work) -> _Candidate:
    corpus, packed, device = inputs.noun("prepare", PackedCorpus), inputs.artifact("prepare"), pick_device()
    preset = spec.chosen()
    require_gpu(work.settings, device)
    begun = start(spec.recipe, preset, spec.champion, corpus, packed.path, spec.seed, work.store, work.settings)
    _require_vocabulary(begun, corpus)
    method = method_of(spec.recipe, begun.model, spec.champion, corpus, packed, work.store)
    require_rows(method.train.count, preset.hyper.rows_per_step)
    if is_first():
        rows, report = open_rows(packed, "train", work.store), inputs.artifact("preflight")
        look_again(report, corpus, rows, begun, method, preset.hyper, checkpoints_of(work), work)
    load = Load.of(method.train, work.settings)
    hyper = choose(begun.model, load, preset.hyper, checkpoints_of(work), method.onlookers)
    return _Candidate(spec, corpus, packed.path / "tokenizer", begun, method, hyper, work, device)


def checkpoints_of(work: Work) -> Path:
    """Folder of this training's checkpoints."""
    return work.settings.home / "checkpoints" / work.key


def _training(candidate: _Candidate, stop: threading.Event) -> Fit:
    spec, work = candidate.spec, candidate.work
    return Fit(
        model=candidate.begun.model,
        hyper=candidate.hyper,
        train=candidate.method.train,
        validation=candidate.method.validation,
        peak=spec.rate or candidate.begun.peak,
        seed=spec.seed,
        folder=checkpoints_of(work),
        stop=stop,
        trainer=candidate.method.trainer,
        extra=candidate.method.extra,
        sharded=work.settings.train_sharding == "full",
        log=work.events.log,
    )


def _announce(candidate: _Candidate, training: Fit) -> None:
    plan, log = training.plan(), candidate.work.events.log
    newest = Checkpoints(training.folder).newest()
    if newest and step_of(newest):
        log(f"going on from step {step_of(newest)} of {plan.steps}, where an earlier attempt ended")
    together = f" in {world_size()} processes" if world_size() > 1 else ""
    log(
        f"recipe {candidate.spec.recipe.name}: training {parameters(training.model):,} parameters from "
        f"{candidate.begun.name} on {name_of(candidate.device)}{together}: {plan.steps} steps, "
        f"{plan.steps_per_epoch} an epoch, peak rate {plan.peak:g}"
    )


def _oversight(candidate: _Candidate, stop: threading.Event) -> Oversight:
    work, rows = candidate.work, candidate.method.train
    trained = sum(parameter.numel() for parameter in candidate.begun.model.parameters() if parameter.requires_grad)
    subject = Subject(
        run_id=work.run_id,
        model_key=work.key,
        month=candidate.spec.month,
        recipe=candidate.spec.recipe.name,
        parameters=trained,
        tokens=rows.count * rows.max_length,
        device=name_of(candidate.device),
    )
    return Oversight(subject, work.settings, work.events, candidate.device, stop)


def _finish(candidate: _Candidate, training: Fit, fitted: Fitted, overfitting: dict[str, Any]) -> TrainedModel:
    """Writes the best validation's weights, the tokenizer and the history."""
    spec, path = candidate.spec, candidate.work.path
    model = merged(training.model)
    model.save_pretrained(path / "model")
    shutil.copytree(candidate.tokenizer, path / "model", dirs_exist_ok=True)
    lines = (json.dumps(line) for line in fitted.history)
    (path / "history.jsonl").write_text("".join(line + "\n" for line in lines))
    return TrainedModel(
        month=spec.month,
        preset=spec.chosen().name,
        start=candidate.begun.name,
        parameters=parameters(model),
        epochs=fitted.epochs,
        steps=fitted.steps,
        best_step=fitted.best_step,
        train_loss=fitted.train_loss,
        validation_loss=fitted.best_validation_loss,
        tokens_per_second=fitted.tokens_per_second,
        device=name_of(candidate.device),
        resumed_from=fitted.resumed_from,
        recipe=spec.recipe.name,
        rollbacks=fitted.rollbacks,
        overfitting=overfitting,
    )


def _require_vocabulary(begun: Start, corpus: PackedCorpus) -> None:
    known = begun.model.config.vocab_size
    if known < corpus.vocabulary:
        raise StageFailed(
            f"{begun.name} knows {known} tokens and the corpus was packed with {corpus.vocabulary}: pack it with that "
            f"model's tokenizer (`theta stage prepare --set recipe=…`), or start from another model"
        )
