"""Everything beside the steps of a training: sensors, reports, mails. See `Oversight` for how to wire it."""

import threading
from types import TracebackType
from typing import Any, Self

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from theta_ml.events import Events
from theta_ml.settings import Settings
from theta_ml.stage import StageFailed
from theta_ml.training.oversight.course import Course, Line, Subject
from theta_ml.training.oversight.mails import Mails, postman
from theta_ml.training.oversight.overfitting import Overfitting, analyse
from theta_ml.training.oversight.reporting import LiveMetrics, metrics_table
from theta_ml.training.oversight.sampler import Recent, Sampler
from theta_ml.training.oversight.sensors import Load, open_sensors
from theta_ml.training.oversight.show import ProgressLine
from theta_ml.training.oversight.thermal import Limits, ThermalCallback, Thermostat
from theta_ml.training.stop import Stopped

TABLE_SECONDS, MLFLOW_SECONDS, MAIL_SECONDS = 30.0, 10.0, 10.0
"""How long a training that ended waits for what it told to arrive."""


class Oversight:
    """Watches one training, in its main process:

        with stop_on_sigterm() as stop, Oversight(subject, settings, events, device, stop) as oversight:
            try:
                fitted = fit(Fit(..., stop=stop, callbacks=callbacks(oversight)))
            except Stopped:
                if oversight.stopped:
                    raise StageFailed(oversight.stopped) from None  # it did not cool; a checkpoint is written
                ...  # SIGTERM, as before
            overfitting = oversight.overfitting()

    Leaving the block says how the training ended. It raises StageRetry where it ended well and Postgres stays away: a
    retry finds the trained weights. It draws the progress line too; nobody else need call `events.progress`.
    """

    def __init__(
        self, subject: Subject, settings: Settings, events: Events, device: torch.device, stop: threading.Event
    ) -> None:
        """Raises SettingsError where the temperatures make no sense."""
        self.subject, self._events, self._stop = subject, events, stop
        self.course = Course()
        self._recent = Recent()
        self.thermostat = Thermostat(Limits.of(settings, device), settings.cool_minutes * 60, stop, self._heat)
        self._post = postman(subject, settings, events)
        self._table = metrics_table(subject, settings, events.log)
        self._live = LiveMetrics(subject, settings, events.log)
        self._mails = Mails(settings, self.course, self.overfitting, self._post.add, lambda: self._live.url)
        self._line = ProgressLine(self.course, events.progress)
        self._sampler = Sampler(open_sensors(device), [self._recent.hear, self._sample], self._unwatched)

    @property
    def stopped(self) -> str | None:
        """Why oversight itself ended the training; None where it did not."""
        return self.thermostat.stopped

    def overfitting(self) -> Overfitting:
        """As the curves are now."""
        return analyse(self.course.history, self.subject.parameters, self.subject.tokens)

    def begin(self, steps: int, step: int, history: list[Line]) -> None:
        """The training begins, is resumed, or goes back to a checkpoint: its rows are written again."""
        self.course.begin(steps, step, history)
        for line in history:
            self._table.add(line)

    def advance(self, step: int) -> None:
        self.course.advance(step)
        self._line.step(self._recent.latest)

    def hear(self, line: Line) -> None:
        """A new line of the history, to which what was measured since the last one is added, in place."""
        line |= _measured(self._recent.take(), self.course.paused_seconds)
        self.course.hear(line)
        tags = self._judge(line) if "validation_loss" in line else None
        self._table.add(line)
        self._live.add(line, tags)

    def _judge(self, line: Line) -> dict[str, str]:
        """Adds the score to the line; its words become tags."""
        verdict = self.overfitting()
        line["overfitting_risk"] = verdict.risk
        self._events.log(
            f"step {line['step']}: train loss {line['epoch_train_loss']:.3f}, validation loss "
            f"{line['validation_loss']:.3f}, overfitting {verdict.level} ({verdict.risk:.2f})"
        )
        return {"theta.overfitting": verdict.sentence, "theta.overfitting_advice": "; ".join(verdict.recommendations)}

    def _unwatched(self) -> None:
        if self.thermostat.is_paused:
            self._events.log("nothing reads the sensors any more, and so the training does not wait for them")
        self.thermostat.close()

    def _sample(self, load: Load) -> None:
        self._mails.tick(load, self.thermostat.is_paused)
        self.thermostat.see(load)
        self.course.paused_seconds = self.thermostat.paused_seconds
        if self.thermostat.is_paused:
            self._line.pause(load)

    def _heat(self, kind: str, sentence: str) -> None:
        self._events.log(sentence)
        if kind == "warm":
            self._mails.warm(sentence)
        elif kind == "paused":
            self._mails.paused(sentence)
        elif kind == "stopped":
            self._mails.stopped(sentence)

    def __enter__(self) -> Self:
        self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sampler.close()
        if self._stop.is_set():
            self._leave_at_once()
            return
        if error is None:
            self._mails.finished()
        else:
            self._mails.failed(_reason(error))
        self._live.close(MLFLOW_SECONDS)
        self._post.close(MAIL_SECONDS)
        unwritten = self._table.close(TABLE_SECONDS)
        if unwritten and error is None:
            raise unwritten

    def _leave_at_once(self) -> None:
        """Of the seconds after SIGTERM none is for servers; what stopped for heat has its mail to send."""
        self._post.close(MAIL_SECONDS if self.stopped else 0.0)
        self._table.close(0.0)
        self._live.close(0.0)


def callbacks(oversight: Oversight) -> list[TrainerCallback]:
    """For the trainer of the main process; they wait while it is too hot, and else cost a few microseconds a step."""
    return [ThermalCallback(oversight.thermostat), CourseCallback(oversight)]


class CourseCallback(TrainerCallback):
    """Tells oversight of steps, and of the history's lines, which `SafeCheckpoints.log` hands on."""

    def __init__(self, oversight: Oversight) -> None:
        self._oversight = oversight

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._oversight.begin(state.max_steps, state.global_step, state.log_history)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._oversight.advance(state.global_step)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._oversight.hear(kwargs["logs"])


def _measured(load: Load, paused_seconds: float) -> Line:
    measured = {
        "utilisation": load.utilisation,
        "memory_bytes": load.memory_bytes,
        "temperature_c": load.temperature_c,
        "power_w": load.power_w,
        "throttled": ", ".join(load.throttled) or None,
        "paused_seconds": paused_seconds or None,
    }
    return {name: value for name, value in measured.items() if value is not None}


def _reason(error: BaseException) -> str:
    """In words where the stage has some; any other exception's own might hold what no mail may."""
    if isinstance(error, StageFailed | Stopped):
        return str(error)
    return f"{type(error).__name__}; the task's log says more"
