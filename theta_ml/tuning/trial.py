"""Stage `trial`: one trial of a study. It is a training: one at a time on a machine, resumed where it was killed."""

import gc
import json
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from pydantic import TypeAdapter
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from theta_ml.events import Events
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, Stage, StageFailed, StageSkipped, Work
from theta_ml.store import Store
from theta_ml.training.guard import MOST, SHARE, Guard
from theta_ml.training.hardware import name_of, pick_device
from theta_ml.training.lock import training_lock
from theta_ml.training.oversight.course import Course, Subject
from theta_ml.training.oversight.heat import HeatWatch, callbacks
from theta_ml.training.oversight.thermal import Limits
from theta_ml.training.stop import EXIT_TERMINATED, Stopped, stop_on_sigterm
from theta_ml.tuning.budget import SECONDS, Budget, spent_seconds
from theta_ml.tuning.candidate import Candidate, Ready
from theta_ml.tuning.runs import HISTORY, LOSS
from theta_ml.tuning.space import RATE
from theta_ml.tuning.spec import Study, StudySpec, TrialResult
from theta_ml.tuning.storage import MACHINE, again, open_storage
from theta_ml.tuning.study import DEFAULT, PEAK, budget_of, load_study, told

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

NOTE, START = "note", "start"
"""User attributes of a trial: why it ended early, and what it started from."""
SHOW_SECONDS = 0.5


@dataclass(frozen=True)
class TrialSpec:
    """Which slot this is: a study gets as many trials as there are slots, until its budget is spent."""

    month: str
    """The run's month."""
    slot: int = 0
    """Any number; each is one trial."""


def trial(spec: TrialSpec, inputs: Inputs, work: Work) -> TrialResult:
    tuning = Tuning.of(inputs, work.run_id, work.settings, work.store, work.events)
    try:
        return tuning.next_trial()
    except Stopped:
        work.events.log("asked to end: the next attempt goes on from the trial's checkpoint")
        raise SystemExit(EXIT_TERMINATED) from None


@dataclass(frozen=True)
class Tuning:
    """A study with all that its trials need."""

    name: str
    candidate: Candidate
    storage: "RDBStorage"
    settings: Settings
    events: Events
    run_id: str

    @classmethod
    def of(cls, inputs: Inputs, run_id: str, settings: Settings, store: Store, events: Events) -> "Tuning":
        """From the artifact of the stage `study`. Raises StageSkipped where there is none: the data was not fit."""
        if "study" not in inputs:
            raise StageSkipped("there is no study to go on with: nothing was prepared for it")
        spec = TypeAdapter(StudySpec).validate_python(inputs.artifact("study").document["spec"])
        name = inputs.noun("study", Study).name
        return cls(name, Candidate(spec, inputs, store, settings), open_storage(settings), settings, events, run_id)

    def study(self) -> optuna.Study:
        return load_study(self.storage, self.name, self.candidate)

    def next_trial(self) -> TrialResult:
        """Makes one more trial. Raises StageSkipped where the budget is spent; Stopped at SIGTERM and SIGINT, and the
        trial then waits, with its checkpoint, for the next call. SettingsError costs no trial."""
        Limits.of(self.settings, pick_device())
        with training_lock(self.settings.home, self.run_id, self.name, self.events):
            self._bury()
            study = self.study()
            budget = budget_of(study)
            self._require_more(study, budget)
            attempt = Attempt(self, study, budget)
            try:
                study.optimize(attempt, n_trials=1)
            except BaseException:  # whatever it was, the trial's point is not at fault: it is tried again, a few times
                ended = None if attempt.number is None else study.trials[attempt.number]
                if ended and ended.state == TrialState.FAIL:
                    again(study, ended)
                raise
            finally:
                gc.collect()  # a trainer holds itself, and so the model's memory, in a circle
        told(self.settings, study, self.candidate, self.events)
        assert attempt.number is not None
        result = result_of(study, study.trials[attempt.number], self.candidate.spec.month)
        self.events.log(_in_words(result, study))
        return result

    def _require_more(self, study: optuna.Study, budget: Budget) -> None:
        """Whatever was begun is finished; else there must be budget, and points that nobody tried."""
        trials = study.get_trials(deepcopy=False)
        if any(each.state == TrialState.WAITING and HISTORY in each.user_attrs for each in trials):
            return
        why = budget.why_over(trials)
        if why is None and isinstance(study.sampler, optuna.samplers.GridSampler) and study.sampler.is_exhausted(study):
            why = "every point of the grid is tried"
        if why:
            raise StageSkipped(why)

    def _bury(self) -> None:
        """Trials that a killed process of this machine left running; we hold its lock, so it is dead."""
        study = self.study()
        for each in study.get_trials(deepcopy=True, states=(TrialState.RUNNING,)):
            if each.user_attrs.get(MACHINE) == machine(self.settings):
                self.events.log(f"trial {each.number} was cut short; it goes on from its checkpoint")
                study.tell(each.number, state=TrialState.FAIL)
                again(study, each)

    def clear(self) -> None:
        """Removes what trials left that were killed too often."""
        states = {each.state for each in self.study().get_trials(deepcopy=False)}
        if not states & {TrialState.WAITING, TrialState.RUNNING}:
            shutil.rmtree(self._folder, ignore_errors=True)

    def folder(self, number: int) -> Path:
        """Of the trial's checkpoints."""
        return self._folder / str(number)

    @property
    def _folder(self) -> Path:
        return self.settings.home / "tuning" / self.name


def machine(settings: Settings) -> str:
    """Within which the training lock holds."""
    return f"{socket.gethostname()}:{settings.home.absolute()}"


@contextmanager
def stop_on_signals() -> Iterator[Event]:
    """An event that SIGTERM and Ctrl-C set, inside the block."""
    with stop_on_sigterm() as stop:
        before = signal.signal(signal.SIGINT, lambda number, frame: stop.set())
        try:
            yield stop
        finally:
            signal.signal(signal.SIGINT, before)


@contextmanager
def _running_away_prunes(folder: Path) -> Iterator[None]:
    """A training that the guard gave up on says something about its point, and nothing about the study."""
    try:
        yield
    except StageFailed as failed:
        if Guard.load(folder).rollbacks < MOST:
            raise
        raise optuna.TrialPruned(str(failed)) from None


class Attempt:
    """The study's objective: trains at one point of the space."""

    def __init__(self, tuning: Tuning, study: optuna.Study, budget: Budget) -> None:
        self.tuning, self.study, self.budget = tuning, study, budget
        self.number: int | None = None
        """Of the trial, once it has begun."""

    def __call__(self, trial: optuna.Trial) -> float:
        self.number = trial.number
        trial.set_user_attr(MACHINE, machine(self.tuning.settings))
        candidate, attributes = self.tuning.candidate, self.study.user_attrs
        point = candidate.space(attributes[PEAK]).suggest(trial)
        ready = candidate.ready()
        hyper = candidate.hyper(point, self.budget, ready.rows)
        trial.set_user_attr(START, ready.start.name)
        origin = optuna.storages.RetryHeartbeatStaleTrialCallback.retried_trial_number(self.study.trials[trial.number])
        folder = self.tuning.folder(trial.number if origin is None else origin)
        report = Report(self, trial, folder, hyper.validate_steps or hyper.max_steps, point == attributes[DEFAULT])
        rate = point.get(RATE, attributes[PEAK])
        log = self.tuning.events.log
        try:
            with stop_on_signals() as stop, self._heat_watch(ready, trial.number, stop) as watch:
                report.course = watch.course
                with _running_away_prunes(folder):
                    fitted = candidate.fit(ready, hyper, rate, folder, log, stop, [*callbacks(watch), report])
        except optuna.TrialPruned as reason:
            trial.set_user_attr(NOTE, str(reason))
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            report.keep_time()
        shutil.rmtree(folder, ignore_errors=True)
        if fitted.rollbacks:
            trial.set_user_attr(NOTE, f"it ran away, and went on with the rate times {SHARE**fitted.rollbacks:g}")
        return fitted.best_validation_loss

    @contextmanager
    def _heat_watch(self, ready: Ready, number: int, stop: Event) -> Iterator[HeatWatch]:
        """Around a trial. Raises StageFailed where it was too hot to go on."""
        tuning, device = self.tuning, pick_device()
        spec, rows = tuning.candidate.spec, ready.method.train
        subject = Subject(
            run_id=tuning.run_id,
            model_key=tuning.name,  # so that a search sends no more mails than a training
            month=spec.month,
            recipe=f"{spec.recipe.name}, trial {number},",
            parameters=sum(each.numel() for each in ready.start.model.parameters() if each.requires_grad),
            tokens=rows.count * rows.max_length,
            device=name_of(device),
            in_retraining=False,
        )
        with HeatWatch(subject, tuning.settings, tuning.events, device, stop) as watch:
            try:
                yield watch
            except Stopped:
                if watch.stopped:
                    raise StageFailed(watch.stopped) from None
                raise


class Report(TrainerCallback):
    """Tells the study of each validation, and ends the trial where the pruner says so."""

    def __init__(self, attempt: Attempt, trial: optuna.Trial, folder: Path, every: int, is_default: bool) -> None:
        self.attempt, self.trial, self.folder, self.every = attempt, trial, folder, every
        self.is_default = is_default
        """It is measured to its end: what would the others be compared with?"""
        self.course = Course()
        self.started = self.shown_at = time.monotonic()
        done = attempt.study.get_trials(deepcopy=False)
        self.reported = set(done[trial.number].intermediate_values)
        self.spent = spent_seconds(each for each in done if each.number != trial.number)
        best = [each.value for each in done if each.state == TrialState.COMPLETE and each.value is not None]
        self.best = f", best {min(best):.4f}" if best else ""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        now = time.monotonic()
        if now - self.shown_at < SHOW_SECONDS:
            return
        self.shown_at = now
        note = f"trial {self.trial.number}, step {state.global_step} of {state.max_steps}{self.best}"
        done, budget = self.spent + self._seconds(), self.attempt.budget.seconds
        self.attempt.tuning.events.progress(round(min(done, budget)), round(budget), "s", note)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if not logs or LOSS not in logs:
            return
        number = state.global_step // self.every
        if number not in self.reported:  # it may have been, before the training was killed or sent back
            self.trial.report(logs[LOSS], number)
            self.reported.add(number)
        self.trial.set_user_attr(HISTORY, json.dumps(state.log_history))
        self.keep_time()
        if not self.is_default and state.global_step < state.max_steps and self.trial.should_prune():
            raise optuna.TrialPruned(f"pruned at step {state.global_step} of {state.max_steps}")

    def keep_time(self) -> None:
        self.trial.set_user_attr(SECONDS, self._seconds())

    def _seconds(self) -> float:
        """Pauses for heat cost the budget nothing."""
        return time.monotonic() - self.started - self.course.paused_seconds


def result_of(study: optuna.Study, trial: FrozenTrial, month: str) -> TrialResult:
    losses = trial.intermediate_values.values()
    return TrialResult(
        month=month,
        study=study.study_name,
        number=trial.number,
        state=trial.state.name.lower(),
        params=trial.params,
        validation_loss=trial.value if trial.state == TrialState.COMPLETE else min(losses, default=None),
        seconds=trial.user_attrs.get(SECONDS, 0.0),
        note=trial.user_attrs.get(NOTE, ""),
    )


def _in_words(result: TrialResult, study: optuna.Study) -> str:
    loss = "no loss" if result.validation_loss is None else f"validation loss {result.validation_loss:.4f}"
    point = ", ".join(f"{name} {value:.3g}" for name, value in result.params.items())
    default = ", the recipe as it is" if result.params == study.user_attrs[DEFAULT] else ""
    note = f" ({result.note})" if result.note else ""
    return f"trial {result.number}{default}: {loss}{note}; {point}; {result.seconds:.0f} s"


STAGE = Stage("trial", 1, TrialSpec, trial)
