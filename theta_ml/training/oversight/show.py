"""The progress line: steps done, and in a few words how it goes."""

import time
from collections.abc import Callable

from theta_ml.training.oversight.course import Course
from theta_ml.training.oversight.sensors import Load

SECONDS = 0.5


class ProgressLine:
    """Said after a step, at most twice a second; while the training pauses, with each sample."""

    def __init__(self, course: Course, say: Callable[[float, float, str, str], None]) -> None:
        self._course, self._say = course, say
        self._said = 0.0

    def step(self, load: Load) -> None:
        if time.monotonic() - self._said < SECONDS and self._course.step < self._course.steps:
            return
        self._said = time.monotonic()
        self._say(self._course.step, self._course.steps, "steps", _note(self._course, load))

    def pause(self, load: Load) -> None:
        heat = "" if load.temperature_c is None else f", {load.temperature_c:.0f} °C"
        self._say(self._course.step, self._course.steps, "steps", f"paused{heat}")


def _note(course: Course, load: Load) -> str:
    loss, speed = course.newest("train_loss"), course.newest("tokens_per_second")
    parts = [
        None if loss is None else f"loss {loss:.2f}",
        None if speed is None else f"{speed / 1000:.1f}k tokens/s",
        None if load.temperature_c is None else f"{load.temperature_c:.0f} °C",
    ]
    return ", ".join(part for part in parts if part)
