"""Stage `study`: a study in Postgres with its first trial, the recipe as it is, waiting; or the one begun before."""

import json
import math
import shutil
import statistics
from dataclasses import asdict, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from theta_ml.events import Events
from theta_ml.settings import Settings, SettingsError
from theta_ml.stage import Inputs, Stage, StageFailed, StageRetry, Work
from theta_ml.training.lock import training_lock
from theta_ml.training.resolving import for_training
from theta_ml.tuning.budget import Budget, share_out
from theta_ml.tuning.candidate import Candidate, Ready
from theta_ml.tuning.runs import mirror
from theta_ml.tuning.space import Space
from theta_ml.tuning.spec import Study, StudySpec
from theta_ml.tuning.storage import open_storage

if TYPE_CHECKING:
    import optuna
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

RUN, BUDGET, DEFAULT, START, PEAK, RATE_FIELD = "run", "budget", "default", "start", "peak", "rate_field"
"""User attributes of a study: who began it, its budget, its first point, where its trials start, that start's peak
rate, and the field of Hyper that holds it."""
STARTUP_TRIALS = 4
"""Drawn by chance before the Bayesian sampler, and before the median pruner, has its say."""
SPEED_STEPS = 8
"""Steps that the speed is measured with, after as many that warm up."""


def study(spec: StudySpec, inputs: Inputs, work: Work) -> Study:
    candidate = Candidate(spec, inputs, work.store, work.settings)
    title = spec.title(inputs)
    storage = open_storage(work.settings)
    name = _begun(storage, title, spec, work) or _begin(storage, title, candidate, work)
    found = load_study(storage, name, candidate)
    attributes = found.user_attrs
    budget = budget_of(found)
    return Study(
        month=spec.month,
        name=name,
        recipe=spec.recipe.name,
        preset=candidate.preset.name,
        sampler=spec.sampler,
        minutes=spec.minutes,
        start=attributes[START],
        steps=budget.steps(candidate.preset.hyper.rows_per_step),
        mlflow_run=told(work.settings, found, candidate, work.events),
    )


def _begun(storage: Any, title: str, spec: StudySpec, work: Work) -> str | None:
    """The newest complete study of this title; of this run, where another is asked for."""
    import optuna

    for name in reversed(_names(storage, title)):
        attributes = optuna.load_study(study_name=name, storage=storage).user_attrs
        if BUDGET in attributes and (not spec.new or attributes[RUN] == work.run_id):
            work.events.log(f"going on with the study {name}")
            return name
    return None


def _names(storage: Any, title: str) -> list[str]:
    """Oldest first."""
    names = [each.study_name for each in storage.get_all_studies()]
    return sorted((name for name in names if name.rpartition("-")[0] == title), key=_number)


def _number(name: str) -> int:
    return int(name.rpartition("-")[2])


def _next_name(storage: Any, title: str) -> str:
    names = _names(storage, title)
    return f"{title}-{_number(names[-1]) + 1 if names else 1}"


def _begin(storage: Any, title: str, candidate: Candidate, work: Work) -> str:
    """A fresh study's name; of the one that was begun while we waited for the lock, where one was."""
    with training_lock(work.settings.home, work.run_id, work.key, work.events):
        name = _begun(storage, title, candidate.spec, work)
        if name is None:
            name = _next_name(storage, title)
            _create(storage, name, candidate, work)
        return name


def _create(storage: Any, name: str, candidate: Candidate, work: Work) -> None:
    """Its budget comes last: a study without one is not found again."""
    import optuna

    ready = candidate.ready()
    rate, start = ready.start.peak, ready.start.name
    space = candidate.space(rate)
    budget = _measured(candidate, ready, space, work)
    try:
        fresh = optuna.create_study(study_name=name, storage=storage, direction="minimize")
    except optuna.exceptions.DuplicatedStudyError:  # the lock is of this machine
        raise StageRetry(f"another machine has just begun the study {name}; the next attempt goes on with it") from None
    attributes = {RUN: work.run_id, START: start, RATE_FIELD: ready.start.rate, PEAK: rate, DEFAULT: space.default}
    for attribute, value in attributes.items():
        fresh.set_user_attr(attribute, value)
    fresh.enqueue_trial(space.default)
    fresh.set_user_attr(BUDGET, asdict(budget))
    work.events.log(
        f"study {name}: {budget.seconds / 60:g} minutes of {candidate.spec.sampler} search over "
        f"{', '.join(space.parameters)} from {start}; {budget.steps(candidate.preset.hyper.rows_per_step)} steps a "
        f"trial, about {budget.trial_seconds:.0f} s"
    )


def _measured(candidate: Candidate, ready: Ready, space: Space, work: Work) -> Budget:
    """What the minutes come to at the speed of some steps."""
    spec, hyper = candidate.spec, candidate.preset.hyper
    few = hyper.changed(
        {
            "max_steps": 2 * SPEED_STEPS,
            "epochs": math.ceil(2 * SPEED_STEPS * hyper.rows_per_step / ready.rows) + 1,
            "validate_steps": SPEED_STEPS,
            "validation_rows": 1,
            "checkpoint_seconds": 3600.0,
        }
    )
    folder = work.path.with_name(f"{work.path.name}.speed")
    try:
        history = candidate.fit(ready, few, ready.start.peak, folder, work.events.log).history
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    times = [line["time"] for line in history if "train_loss" in line and line["step"] > SPEED_STEPS]
    step_seconds = statistics.median(later - earlier for earlier, later in pairwise(times))
    scored = min(hyper.validation_rows, ready.method.validation.count)
    most = min(hyper.epochs * ready.rows, hyper.max_steps * hyper.rows_per_step)
    points = math.prod(len(values) for values in space.grid.values()) + 1 if spec.sampler == "grid" else None
    row_seconds = step_seconds / hyper.rows_per_step
    budget = share_out(spec.minutes, spec.trials or points, row_seconds, hyper.rows_per_step, scored, most)
    return replace(budget, trials=spec.trials)


def load_study(storage: Any, name: str, candidate: Candidate) -> "optuna.Study":
    """The study with its sampler and pruner. Raises StageFailed where Postgres has it no more."""
    import optuna

    try:
        plain = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        raise StageFailed(f"there is no study {name} in the database: run `theta tune` again") from None
    spec = candidate.spec
    space = candidate.space(plain.user_attrs[PEAK])
    # Each trial may be a process of its own: from one seed, all would draw the same first point.
    seed = spec.seed * 10_000 + len(plain.get_trials(deepcopy=False))
    return optuna.load_study(
        study_name=name, storage=storage, sampler=_sampler(spec, space, seed), pruner=_pruner(spec, plain)
    )


def _sampler(spec: StudySpec, space: Space, seed: int) -> "BaseSampler":
    from optuna import samplers

    if spec.sampler == "grid":
        return samplers.GridSampler(space.grid, seed=spec.seed)  # one order for all processes
    if spec.sampler == "random":
        return samplers.RandomSampler(seed=seed)
    return samplers.TPESampler(n_startup_trials=STARTUP_TRIALS, multivariate=True, seed=seed)


def _pruner(spec: StudySpec, study: "optuna.Study") -> "BasePruner":
    from optuna import pruners

    if spec.pruner == "median":
        return pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=2)
    if spec.pruner == "hyperband":
        return pruners.HyperbandPruner(min_resource=2, max_resource=budget_of(study).validations)
    return pruners.NopPruner()


def budget_of(study: "optuna.Study") -> Budget:
    return TypeAdapter(Budget).validate_python(study.user_attrs[BUDGET])


def told(settings: Settings, study: "optuna.Study", candidate: Candidate, events: Events, ended: bool = False) -> str:
    """The tuning's run in MLflow, brought up to date; empty where MLflow is away, which stops no search."""
    spec = candidate.spec
    params = {
        "month": spec.month,
        "preset": candidate.preset.name,
        "recipe": spec.recipe.name,
        "sampler": spec.sampler,
        "pruner": spec.pruner,
        "minutes": spec.minutes,
        "start": study.user_attrs[START],
        "space": json.dumps({name: asdict(each) for name, each in spec.space.items()}),
        **{f"default.{name}": value for name, value in study.user_attrs[DEFAULT].items()},
    }
    try:
        return mirror(settings, study, params, ended)
    except (StageRetry, StageFailed, SettingsError) as error:
        events.log(f"{error}; what is missing there is added later")
        return ""


STAGE = Stage("study", 1, StudySpec, study, for_training, effects=True)
