"""Everything beside the steps of a training: sensors, reports, mails. See `Oversight` for how to wire it."""

import threading
import time
from types import TracebackType

import torch

from theta_ml.events import Events
from theta_ml.settings import Settings
from theta_ml.stage import StageFailed
from theta_ml.training.oversight.course import Line, Subject
from theta_ml.training.oversight.heat import MAIL_SECONDS, HeatWatch, callbacks
from theta_ml.training.oversight.reporting import LiveMetrics, metrics_table
from theta_ml.training.oversight.sampler import Recent
from theta_ml.training.oversight.sensors import Load
from theta_ml.training.oversight.show import ProgressLine
from theta_ml.training.stop import Stopped

__all__ = ["Oversight", "callbacks"]

TABLE_SECONDS, MLFLOW_SECONDS = 30.0, 10.0
"""How long a training that ended waits for what it told to arrive."""
HURRY_SECONDS = 3.0
"""How long one waits that was finished when it was asked to end: of its 5 seconds, writing the candidate takes some."""


class Oversight(HeatWatch):
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
        super().__init__(subject, settings, events, device, stop)
        self._recent = Recent()
        self._table = metrics_table(subject, settings, events.log)
        self._live = LiveMetrics(subject, settings, events.log)
        self._line = ProgressLine(self.course, events.progress)

    def begin(self, steps: int, step: int, history: list[Line]) -> None:
        """The training begins, is resumed, or goes back to a checkpoint: its rows are written again."""
        super().begin(steps, step, history)
        for line in history:
            self._table.add(line)

    def advance(self, step: int) -> None:
        super().advance(step)
        self._line.step(self._recent.latest)

    def hear(self, line: Line) -> None:
        """A new line of the history, to which what was measured since the last one is added, in place."""
        line |= _measured(self._recent.take(), self.course.paused_seconds)
        super().hear(line)
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

    def _live_url(self) -> str | None:
        return self._live.url

    def _sample(self, load: Load) -> None:
        self._recent.hear(load)
        self._mails.tick(load, self.thermostat.is_paused)
        super()._sample(load)
        if self.thermostat.is_paused:
            self._line.pause(load)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sampler.close()
        if error is None:
            self._mails.finished()
            self._leave_finished()
        elif self._stop.is_set():
            self._leave_at_once()
        else:
            self._mails.failed(_reason(error))
            self._live.close(MLFLOW_SECONDS)
            self._post.close(MAIL_SECONDS)
            self._table.close(TABLE_SECONDS)

    def _leave_finished(self) -> None:
        """Nobody tells of it later, as the next attempt finds the candidate: also one asked to end says so, in a hurry.

        MLflow can wait then: the stage `decide` adds what it lacks.
        """
        hurry = self._stop.is_set()
        until = time.monotonic() + HURRY_SECONDS
        if not hurry:
            self._live.close(MLFLOW_SECONDS)
        self._post.close(_left(until) if hurry else MAIL_SECONDS)
        unwritten = self._table.close(_left(until) if hurry else TABLE_SECONDS)
        if hurry:
            self._live.close(0.0)
        if unwritten:
            raise unwritten

    def _leave_at_once(self) -> None:
        """Of the seconds after SIGTERM none is for servers; what stopped for heat has its mail to send."""
        self._post.close(MAIL_SECONDS if self.stopped else 0.0)
        self._table.close(0.0)
        self._live.close(0.0)


def _left(until: float) -> float:
    return max(0.0, until - time.monotonic())


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
