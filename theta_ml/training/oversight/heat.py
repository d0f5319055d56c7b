"""Watches the heat of what trains, and its course: all that a trial of a search needs of oversight."""

import threading
from types import TracebackType
from typing import Any, Self

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from theta_ml.events import Events
from theta_ml.settings import Settings
from theta_ml.training.oversight.course import Course, Line, Subject
from theta_ml.training.oversight.mails import Mails, postman
from theta_ml.training.oversight.overfitting import Overfitting, analyse
from theta_ml.training.oversight.sampler import Sampler
from theta_ml.training.oversight.sensors import Load, open_sensors
from theta_ml.training.oversight.thermal import Limits, ThermalCallback, Thermostat

MAIL_SECONDS = 10.0
"""How long a training that ended waits for its mails to be in the outbox."""


class HeatWatch:
    """Warns of heat, pauses for it and ends the training for it; mails tell of nothing else.

    Used as `Oversight` is: a block around `fit`, with `callbacks(watch)` among its callbacks.
    """

    def __init__(
        self, subject: Subject, settings: Settings, events: Events, device: torch.device, stop: threading.Event
    ) -> None:
        """Raises SettingsError where the temperatures make no sense."""
        self.subject, self._events, self._stop = subject, events, stop
        self.course = Course()
        self.thermostat = Thermostat(Limits.of(settings, device), settings.cool_minutes * 60, stop, self._heat)
        self._post = postman(subject, settings, events)
        self._mails = Mails(settings, self.course, self.overfitting, self._post.add, self._live_url)
        self._sampler = Sampler(open_sensors(device), [self._sample], self._unwatched)

    @property
    def stopped(self) -> str | None:
        """Why the watch itself ended the training; None where it did not."""
        return self.thermostat.stopped

    def overfitting(self) -> Overfitting:
        """As the curves are now."""
        return analyse(self.course.history, self.subject.parameters, self.subject.tokens)

    def begin(self, steps: int, step: int, history: list[Line]) -> None:
        """The training begins, is resumed, or goes back to a checkpoint."""
        self.course.begin(steps, step, history)

    def advance(self, step: int) -> None:
        self.course.advance(step)

    def hear(self, line: Line) -> None:
        """A new line of the history."""
        self.course.hear(line)

    def _live_url(self) -> str | None:
        return None

    def _sample(self, load: Load) -> None:
        self._mails.note(load)
        self.thermostat.see(load)
        self.course.paused_seconds = self.thermostat.paused_seconds

    def _unwatched(self, fault: BaseException | None) -> None:
        if fault is not None:
            paused = "; it pauses, and no longer waits for them" if self.thermostat.is_paused else ""
            self._events.log(
                f"the sensors are not read any more, and nobody watches the heat of this training{paused}: {fault!r}"
            )
        self.thermostat.close()

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
        asked_to_end = self._stop.is_set() and not self.stopped
        self._post.close(0.0 if asked_to_end else MAIL_SECONDS)


def callbacks(watch: HeatWatch) -> list[TrainerCallback]:
    """For the trainer of the main process; they wait while it is too hot, and else cost a few microseconds a step."""
    return [ThermalCallback(watch.thermostat), CourseCallback(watch)]


class CourseCallback(TrainerCallback):
    """Tells the watch of steps, and of the history's lines, which `SafeCheckpoints.log` hands on."""

    def __init__(self, watch: HeatWatch) -> None:
        self._watch = watch

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._watch.begin(state.max_steps, state.global_step, state.log_history)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._watch.advance(state.global_step)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._watch.hear(kwargs["logs"])
