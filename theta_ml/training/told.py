"""Tells the events, MLflow and Postgres what happens in a training."""

import dataclasses
import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from theta_ml.stage import Work
from theta_ml.training.hardware import Gauge, name_of
from theta_ml.training.reporting import EpochRow, EpochTable, LiveMetrics

SHOW_SECONDS = 0.5


class Told(TrainerCallback):
    """As a training goes on; `close` waits for the last numbers to arrive."""

    def __init__(self, work: Work, month: str, gauge: Gauge) -> None:
        self._work, self._gauge, self._device = work, gauge, name_of(gauge.device)
        self._table = EpochTable(work.settings, work.run_id, work.key, work.events.log)
        self._live = LiveMetrics(work.settings, work.run_id, month, work.events.log)
        self._shown_at = 0.0
        self._line: dict[str, Any] = {}

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if time.monotonic() - self._shown_at < SHOW_SECONDS and state.global_step < state.max_steps:
            return
        self._shown_at = time.monotonic()
        self._gauge.sample()
        note = ""
        if self._line:
            note = f"loss {self._line['train_loss']:.2f}, {self._line['tokens_per_second'] / 1000:.1f}k tokens/s"
        self._work.events.progress(state.global_step, state.max_steps, "steps", note)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        logs: dict[str, Any] = given["logs"]
        if "train_loss" in logs:
            self._line = logs
        else:
            self._epoch(logs)
        self._live.add(logs)

    def _epoch(self, line: dict[str, Any]) -> None:
        load = self._gauge.read()
        line.update({name: value for name, value in dataclasses.asdict(load).items() if value is not None})
        self._table.add(
            EpochRow(
                epoch=line["epoch"],
                step=line["step"],
                train_loss=line["epoch_train_loss"],
                validation_loss=line["validation_loss"],
                learning_rate=self._line["learning_rate"],
                tokens_per_second=self._line["tokens_per_second"],
                device=self._device,
                load=load,
            )
        )
        losses = f"train loss {line['epoch_train_loss']:.3f}, validation loss {line['validation_loss']:.3f}"
        self._work.events.log(f"epoch {line['epoch']}: {losses}")

    def finish(self, stop: Any) -> None:
        """Raises DatabaseUnreachable, a StageRetry, where Postgres stays away."""
        self._table.close(stop)

    def close(self) -> None:
        self._live.close()
