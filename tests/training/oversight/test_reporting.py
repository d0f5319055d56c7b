"""MLflow and Postgres hear of a training, and being away does not stop it."""

import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest
import torch

from tests.pipeline.drive import until
from tests.training.oversight.hot import SUBJECT, Recorder, oversight
from theta_ml import tracking
from theta_ml.settings import Settings
from theta_ml.stage import StageRetry
from theta_ml.training.oversight import courier, watch
from theta_ml.training.oversight.reporting import LiveMetrics, metrics_table
from theta_ml.training.oversight.sensors import open_sensors

NOWHERE = "postgresql://postgres@127.0.0.1:1/theta"
INTERVAL: dict[str, Any] = {"step": 10, "time": 1.7e9, "train_loss": 2.5, "learning_rate": 1e-3, "gradient_norm": 0.9}
VALIDATION: dict[str, Any] = {"step": 10, "time": 1.7e9, "epoch": 1, "validation_loss": 2.25, "epoch_train_loss": 2.75}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "FLUSH_SECONDS", 0.01)
    monkeypatch.setattr(courier, "RETRY_SECONDS", 0.01)


def test_lines_and_words_arrive_in_the_candidates_run(tmp_path: Path, database_url: str, mlflow_uri: str) -> None:
    settings = Settings(home=tmp_path, database_url=database_url, mlflow_tracking_uri=mlflow_uri)  # type: ignore[arg-type]
    lines = [{"step": step, "time": 1.7e9 + step, "train_loss": 5.0 / step} for step in (1, 2, 3)]
    said: list[str] = []
    for some in (lines[:2], lines[1:]):  # step 2 is sent twice, as after a crash
        live = LiveMetrics(SUBJECT, settings, said.append)
        for line in some:
            live.add(line, {"theta.overfitting": f"low at {line['step']}"})
        assert live.close(60.0) is None
    run = tracking.candidate_run(settings, SUBJECT.run_id, SUBJECT.month, SUBJECT.recipe)
    mlflow = tracking.client(settings)
    points = mlflow.get_metric_history(run, "train_loss")
    assert {(point.step, point.value) for point in points} == {(1, 5.0), (2, 2.5), (3, 5.0 / 3)}
    assert mlflow.get_run(run).data.tags["theta.overfitting"] == "low at 3"
    assert len(points) == 3 and said == []
    assert live.url and live.url.startswith(f"{mlflow_uri}/#/experiments/") and live.url.endswith(f"/runs/{run}")


def test_mlflow_being_away_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()
    sent: list[Any] = []

    def away(*_: object) -> str:
        if not answers.is_set():
            raise StageRetry("MLflow did not answer")
        return "run"

    monkeypatch.setattr(tracking, "candidate_run", away)
    monkeypatch.setattr(tracking, "log_metrics", lambda settings, run, lines: sent.extend(lines))
    monkeypatch.setattr(tracking, "run_url", lambda settings, run: None)
    said: list[str] = []
    live = LiveMetrics(SUBJECT, Settings(home=tmp_path), said.append)
    for step in range(5):
        live.add({"step": step, "train_loss": 1.0})
    until("it says that MLflow is away", lambda: bool(said), 60)
    refused = live.close(0.1)
    assert isinstance(refused, StageRetry) and sent == []
    assert len(said) == 1 and "MLflow did not answer; it is tried again" in said[0]
    live = LiveMetrics(SUBJECT, Settings(home=tmp_path), said.append)
    live.add({"step": 5, "train_loss": 1.0})
    answers.set()
    assert live.close(10.0) is None and [line["step"] for line in sent] == [5]


def test_intervals_and_validations_are_rows_of_their_own(tmp_path: Path, database_url: str) -> None:
    settings = Settings(home=tmp_path, database_url=database_url)  # type: ignore[arg-type]
    table = metrics_table(SUBJECT, settings, lambda message: None)
    for line in (INTERVAL, VALIDATION, INTERVAL | {"train_loss": 2.4, "throttled": "power cap"}):
        table.add(line)  # the last comes again, as after a crash between the row and the checkpoint
    assert table.close(20.0) is None
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "SELECT kind, step, recipe, epoch, train_loss, validation_loss, throttled FROM training_metrics ORDER BY 1"
        ).fetchall()
    assert rows == [
        ("interval", 10, "continue", None, 2.4, None, "power cap"),
        ("validation", 10, "continue", 1.0, 2.75, 2.25, ""),
    ]


def test_a_good_training_whose_rows_postgres_does_not_take_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "TABLE_SECONDS", 0.5)
    events = Recorder()
    away = Settings(home=tmp_path, database_url=NOWHERE)  # type: ignore[arg-type]
    with pytest.raises(StageRetry), oversight(away, events, threading.Event()) as watched:
        watched.begin(10, 0, [])
        watched.hear(dict(VALIDATION))
    with pytest.raises(ZeroDivisionError), oversight(away, Recorder(), threading.Event()) as watched:
        watched.hear(dict(VALIDATION))
        raise ZeroDivisionError
    assert any("training_metrics" in fields["message"] for fields in events.of("log"))


def test_a_line_of_the_history_holds_what_was_measured(tmp_path: Path) -> None:
    line = dict(VALIDATION)
    watched = oversight(Settings(home=tmp_path), Recorder(), threading.Event())
    watched._recent.hear(open_sensors(torch.device("cpu")).sample())
    watched.hear(line)
    assert line["memory_bytes"] > 0 and 0 <= line["overfitting_risk"] <= 1
