"""What a training tells: its events, MLflow while it runs, and a row an epoch in Postgres.

MLflow or Postgres being away does not stop a training. MLflow's numbers are in history.jsonl too, from which the stage
`decide` adds what is missing; the rows for Postgres are kept until it answers.
"""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from theta_ml.landing.database import DatabaseUnreachable, connect, database_faults
from theta_ml.settings import Settings, SettingsError
from theta_ml.stage import StageFailed, StageRetry
from theta_ml.training.hardware import Load

FLUSH_SECONDS = 2.0
ATTEMPTS = 3
CLOSE_SECONDS = 10.0
DATABASE_SECONDS = 30.0
UPSERT = """
INSERT INTO training_metrics (kind, recipe, run_id, model_key, epoch, step, train_loss, validation_loss, learning_rate,
    tokens_per_second, device, utilisation, memory_bytes, temperature_c, power_w)
VALUES ('validation', 'continue', %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (run_id, model_key, kind, step) DO UPDATE SET epoch = excluded.epoch, train_loss = excluded.train_loss,
    validation_loss = excluded.validation_loss, learning_rate = excluded.learning_rate,
    tokens_per_second = excluded.tokens_per_second, device = excluded.device,
    utilisation = excluded.utilisation, memory_bytes = excluded.memory_bytes,
    temperature_c = excluded.temperature_c, power_w = excluded.power_w, recorded_at = clock_timestamp()
"""


class LiveMetrics:
    """Sends lines of the history to MLflow from a thread of its own: a slow server must not slow the training."""

    def __init__(self, settings: Settings, run_id: str, month: str, log: Callable[[str], None]) -> None:
        self._settings, self._run_id, self._month, self._log = settings, run_id, month, log
        self._lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="live-metrics", daemon=True)
        self._thread.start()

    def add(self, line: dict[str, Any]) -> None:
        self._lines.put(line)

    def close(self) -> None:
        """Waits a while for the last lines to arrive."""
        self._closing.set()
        self._lines.put(None)
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            self._log("MLflow is slow: the last metrics are added when the candidate is decided on")

    def _work(self) -> None:
        failures = 0
        lines: list[dict[str, Any]] = []
        while failures < ATTEMPTS:
            lines += self._wait(first=not lines)
            try:
                self._send([line for line in lines if line])
            except (StageRetry, StageFailed, SettingsError) as error:
                failures = failures + 1 if isinstance(error, StageRetry) else ATTEMPTS
                if failures == ATTEMPTS:
                    self._log(f"no live metrics: {error}; they are added when the candidate is decided on")
                continue
            if None in lines:
                return
            failures, lines = 0, []

    def _send(self, lines: list[dict[str, Any]]) -> None:
        from theta_ml import tracking  # in this thread: importing MLflow takes seconds

        if lines:
            mlflow_run = tracking.retraining_run(self._settings, self._run_id, self._month)
            tracking.log_metrics(self._settings, mlflow_run, lines)

    def _wait(self, first: bool) -> list[Any]:
        """Lines that come within the next moments, from the first one on where none is in hand; None is the end."""
        lines = [self._lines.get()] if first else []
        self._closing.wait(FLUSH_SECONDS)
        while not self._lines.empty():
            lines.append(self._lines.get())
        return lines


@dataclass(frozen=True)
class EpochRow:
    """A row of training_metrics."""

    epoch: int
    step: int
    train_loss: float
    validation_loss: float
    learning_rate: float
    tokens_per_second: float
    device: str
    load: Load


@dataclass
class EpochTable:
    """Writes the epochs of one training attempt, and keeps those that Postgres did not take."""

    settings: Settings
    run_id: str
    model_key: str
    log: Callable[[str], None]
    waiting: list[EpochRow] = field(default_factory=list)

    def add(self, row: EpochRow) -> None:
        self.waiting.append(row)
        try:
            self._write()
        except DatabaseUnreachable as error:
            self.log(f"epoch {row.epoch} is written later: {error}")

    def close(self, stop: threading.Event) -> None:
        """Raises DatabaseUnreachable, a StageRetry, where Postgres stays away: a retry finds the trained weights."""
        give_up = time.monotonic() + DATABASE_SECONDS
        while self.waiting:
            try:
                self._write()
            except DatabaseUnreachable:
                if stop.wait(1.0) or time.monotonic() > give_up:
                    raise

    def _write(self) -> None:
        rows = [self._values(row) for row in self.waiting]
        with database_faults(), connect(self.settings) as connection, connection.cursor() as cursor:
            cursor.executemany(UPSERT, rows)
        self.waiting.clear()

    def _values(self, row: EpochRow) -> tuple[Any, ...]:
        measured = (row.load.utilisation, row.load.memory_bytes, row.load.temperature_c, row.load.power_w)
        numbers = (row.train_loss, row.validation_loss, row.learning_rate, row.tokens_per_second)
        return (self.run_id, self.model_key, row.epoch, row.step, *numbers, row.device, *measured)
