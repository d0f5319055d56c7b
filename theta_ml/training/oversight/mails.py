"""Which mails a training sends, and when. A flood is impossible: the event that names a mail also names its mail.

What happens once (started, warm, finished) is named so; what may happen again is named by the interval of the clock it
fell into. The outbox takes one mail of a name, so that neither a device that swings around its limit nor a training
that is started again and again sends more.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime

from theta_ml.events import Events
from theta_ml.landing.database import connect, database_faults
from theta_ml.mail.outbox import enqueue, is_waiting
from theta_ml.settings import Settings
from theta_ml.training.oversight.courier import Courier
from theta_ml.training.oversight.course import Course, Subject
from theta_ml.training.oversight.letter import News, compose
from theta_ml.training.oversight.overfitting import Overfitting
from theta_ml.training.oversight.sensors import Load

MEASURE_SECONDS = 30.0
"""How long the pace is watched before anybody is told how long it will take."""


def postman(subject: Subject, settings: Settings, events: Events) -> Courier[News]:
    """Writes mails into the outbox, then hands on those that have not left."""

    def send(waiting: list[News]) -> None:
        for news in waiting:
            message = compose(news, subject, settings)
            with database_faults(), connect(settings) as connection:
                enqueue(connection, message, run_id=subject.run_id, month=subject.month, kind="progress")
                waits = is_waiting(connection, message.message_id)
            if waits:
                events.mail(asdict(message))

    return Courier("mails", send, events.log)


class Mails:
    """The policy; `tick` is called with each sample of the sensors."""

    def __init__(
        self,
        settings: Settings,
        course: Course,
        overfitting: Callable[[], Overfitting | None],
        post: Callable[[News], None],
        live_url: Callable[[], str | None] = lambda: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._every, self._after = settings.mail_minutes * 60, settings.mail_after_minutes * 60
        self._course, self._overfitting, self._post = course, overfitting, post
        self._live_url, self._now = live_url, now
        self._load = Load()
        self._began = now()
        self._said: dict[str, float] = {}
        self._announced = False

    def note(self, load: Load) -> None:
        """What a mail says of the device."""
        self._load = load

    def tick(self, load: Load, is_paused: bool) -> None:
        self.note(load)
        if not self._announced:
            self._announce()
        elif self._is_due("digest"):
            share = self._course.step / max(1, self._course.steps)
            sentence = "The training pauses: it is too hot." if is_paused else "The training goes on."
            self._again("digest", f"at {share:.0%}", sentence)

    def warm(self, sentence: str) -> None:
        self._once("warm", f"is warm, {self._heat()}", sentence)

    def paused(self, sentence: str) -> None:
        if self._is_due("paused"):
            self._again("paused", f"paused, {self._heat()}", sentence)

    def stopped(self, reason: str) -> None:
        self._again("stopped", "stopped", f"Stopped: {reason}.")

    def failed(self, reason: str) -> None:
        if self._announced:
            self._again("failed", "failed", f"Failed: {reason}")

    def finished(self) -> None:
        best = self._course.best
        outcome = "" if best is None else f", validation loss {best:.3f}"
        if self._announced or self._elapsed() >= self._after > 0:
            self._once("finished", f"finished{outcome}", f"The training is finished{outcome}.")

    def _announce(self) -> None:
        watched, remaining = self._now() - self._began, self._course.remaining_seconds
        if remaining is None or watched < min(MEASURE_SECONDS, self._after):
            return
        if self._elapsed() + remaining >= self._after:
            self._announced = True
            self._said["digest"] = self._now()
            self._once("started", "started", "The training has started.")

    def _elapsed(self) -> float:
        """Seconds since the first attempt's first line: who heard that it started hears how it ended, too."""
        first = self._course.history[0].get("time", self._began) if self._course.history else self._began
        return self._now() - min(self._began, first)

    def _is_due(self, kind: str) -> bool:
        return self._now() - self._said.get(kind, -self._every) >= self._every

    def _once(self, kind: str, title: str, sentence: str) -> None:
        if kind not in self._said:
            self._said[kind] = self._now()
            self._post(self._news(kind, title, sentence))

    def _again(self, kind: str, title: str, sentence: str) -> None:
        self._said[kind] = self._now()
        self._post(self._news(f"{kind} {int(self._now() // self._every)}", title, sentence))

    def _news(self, event: str, title: str, sentence: str) -> News:
        course = self._course
        return News(
            event=event,
            title=title,
            sentence=sentence,
            step=course.step,
            steps=course.steps,
            history=course.history,
            load=self._load,
            remaining_seconds=course.remaining_seconds,
            paused_seconds=course.paused_seconds,
            overfitting=self._overfitting(),
            at=datetime.fromtimestamp(self._now(), UTC),
            live_url=self._live_url(),
        )

    def _heat(self) -> str:
        return "hot" if self._load.temperature_c is None else f"{self._load.temperature_c:.0f} °C"
