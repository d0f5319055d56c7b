"""What a training tells while it runs: each line of its history to Postgres, and to its candidate's run in MLflow.

Postgres or MLflow being away does not stop a training. The lines are in its checkpoints and in history.jsonl too, from
which a resumed training writes its rows again, and the stage `decide` adds what MLflow lacks.
"""

import threading
from collections.abc import Callable
from typing import Any

from theta_ml.landing.database import connect, database_faults
from theta_ml.settings import Settings
from theta_ml.training.oversight.courier import Courier
from theta_ml.training.oversight.course import Line, Subject

_NUMBERS = (
    "learning_rate", "gradient_norm", "tokens_per_second", "utilisation", "memory_bytes", "temperature_c", "power_w",
    "overfitting_risk",
)  # fmt: skip
_COLUMNS = (
    "run_id", "model_key", "kind", "step", "recipe", "device", "epoch", "train_loss", "validation_loss", "throttled",
    "paused_seconds", *_NUMBERS,
)  # fmt: skip
_KEY = ("run_id", "model_key", "kind", "step")
UPSERT = (
    f"INSERT INTO training_metrics ({', '.join(_COLUMNS)}) VALUES ({', '.join(['%s'] * len(_COLUMNS))}) "  # noqa: S608
    f"ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET recorded_at = clock_timestamp(), "
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name not in _KEY)
)
"""Only names of ours stand in it; the values are parameters."""


def row(subject: Subject, line: Line) -> tuple[Any, ...]:
    """A line of the history as a row of training_metrics, in the order of its columns."""
    validated = "validation_loss" in line
    return (
        *(subject.run_id, subject.model_key, "validation" if validated else "interval", line["step"]),
        *(subject.recipe, subject.device, line.get("epoch")),
        line.get("epoch_train_loss") if validated else line.get("train_loss"),
        line.get("validation_loss"),
        line.get("throttled", ""),
        line.get("paused_seconds", 0.0),
        *(line.get(name) for name in _NUMBERS),
    )


def metrics_table(subject: Subject, settings: Settings, log: Callable[[str], None]) -> Courier[Line]:
    """Writes lines to training_metrics; a line that comes again, as after a resume, replaces its row."""

    def send(lines: list[Line]) -> None:
        rows = [row(subject, line) for line in lines]
        with database_faults(), connect(settings) as connection, connection.cursor() as cursor:
            cursor.executemany(UPSERT, rows)

    return Courier("training_metrics", send, log)


class LiveMetrics:
    """Lines of the history, and tags, to the candidate's run in MLflow."""

    def __init__(self, subject: Subject, settings: Settings, log: Callable[[str], None]) -> None:
        self._subject, self._settings = subject, settings
        self._lock = threading.Lock()
        self._tags: dict[str, str] = {}
        self.url: str | None = None
        """The run's page, once it is known."""
        self._courier: Courier[Line] = Courier("live metrics in MLflow", self._send, log)

    def add(self, line: Line, tags: dict[str, str] | None = None) -> None:
        with self._lock:
            self._tags |= tags or {}
        self._courier.add(line)

    def close(self, seconds: float) -> Exception | None:
        return self._courier.close(seconds)

    def _send(self, lines: list[Line]) -> None:
        from theta_ml import tracking  # in this thread: importing MLflow takes seconds

        with self._lock:
            tags = dict(self._tags)
        subject = self._subject
        run = tracking.candidate_run(self._settings, subject.run_id, subject.month, subject.recipe)
        tracking.log_metrics(self._settings, run, lines)
        if tags:
            tracking.set_tags(self._settings, run, tags)
        self.url = self.url or tracking.run_url(self._settings, run)
