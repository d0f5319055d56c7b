"""A training that overheats pauses, writes, goes on, and ends as one that did not; one that never cools ends."""

import os
import signal
import threading
import time
from pathlib import Path

import psutil
import psycopg
import pytest
import torch

from tests.pipeline.drive import until
from tests.training.oversight.hot import Chip, Recorder, Room, curve, oversight, work
from tests.training.test_train import MONTH, Bench
from theta_ml.settings import Settings, SettingsError
from theta_ml.stage import StageFailed, run_stage
from theta_ml.training import train
from theta_ml.training.checkpoints import Checkpoints, is_complete, step_of
from theta_ml.training.fit import fit
from theta_ml.training.oversight.sensors import Load
from theta_ml.training.oversight.thermal import Limits, Thermostat
from theta_ml.training.stop import Stopped, stop_on_sigterm

HOT_AT = 9


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return Settings(home=tmp_path, database_url=database_url, mail_after_minutes=0)  # type: ignore[arg-type]


def test_a_training_that_overheats_pauses_and_ends_with_the_same_curve(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    cool = fit(work(tmp_path / "cool"))
    room, events = Room(monkeypatch, HOT_AT), Recorder()
    with oversight(settings, events, threading.Event()) as watched:
        hot = fit(work(tmp_path / "hot", watched, room))
    assert curve(hot.history) == curve(cool.history)
    assert watched.thermostat.paused_seconds > 0 and watched.stopped is None
    notes = [said["note"] for said in events.of("progress")]
    assert any(note.startswith("paused, 1") and note.endswith(" °C") for note in notes)
    assert notes[-1].startswith("loss ") and notes[-1].endswith("°C")
    said = [fields["message"] for fields in events.of("log")]
    assert sum("the training pauses until it has cooled to 85 °C" in line for line in said) == 1
    assert sum("the training goes on" in line for line in said) == 1
    (mail,) = [mail for mail in events.mails if "paused" in mail["subject"]]
    assert mail["subject"] == "Theta 2026-02: training continue paused, 110 °C"
    rows = _rows(settings)
    assert [row[:2] for row in rows if row[0] == "validation"] == [("validation", step) for step in (6, 12, 18, 24)]
    assert len([row for row in rows if row[0] == "interval"]) == 24
    assert max(row[2] for row in rows if row[2]) == 110 and rows[-1][3] > 0


def test_one_that_never_cools_ends_with_a_whole_checkpoint_and_says_why(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    cool = fit(work(tmp_path / "cool"))
    room, events = Room(monkeypatch, HOT_AT, cools=0.0), Recorder()
    patient = settings.model_copy(update={"cool_minutes": 0.005})
    with pytest.raises(Stopped), oversight(patient, events, threading.Event()) as watched:
        fit(work(tmp_path / "hot", watched, room))
    assert watched.stopped and "too hot" in watched.stopped and "THETA_TEMPERATURE_LIMIT" in watched.stopped
    newest = Checkpoints(tmp_path / "hot").newest()
    assert newest and is_complete(newest) and HOT_AT <= step_of(newest) < 24
    assert [mail["subject"].rpartition(" ")[2] for mail in events.mails][-1] == "stopped"
    assert watched.stopped in events.mails[-1]["text"]
    Room(monkeypatch, None)
    with oversight(settings, Recorder(), threading.Event()) as watched:
        after = fit(work(tmp_path / "hot", watched))
    assert after.resumed_from == step_of(newest) and curve(after.history) == curve(cool.history)
    assert len([row for row in _rows(settings) if row[0] == "interval"]) == 24


def test_sigterm_in_a_pause_ends_it_at_once(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, sent = Room(monkeypatch, HOT_AT, cools=0.0), [0.0]

    def terminate() -> None:
        while not watched.thermostat.is_paused:
            room.asked.wait(0.01)
        sent[0] = time.monotonic()
        os.kill(os.getpid(), signal.SIGTERM)

    with stop_on_sigterm() as stop:
        with pytest.raises(Stopped), oversight(settings, Recorder(), stop) as watched:
            other = threading.Thread(target=terminate)
            other.start()
            fit(work(tmp_path / "hot", watched, room))
        other.join()
    assert time.monotonic() - sent[0] < 3 and watched.stopped is None
    newest = Checkpoints(tmp_path / "hot").newest()
    assert newest and step_of(newest) >= HOT_AT


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_pause_ends_where_nothing_reads_the_sensors_any_more(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, events = Room(monkeypatch, HOT_AT, cools=0.0), Recorder()

    def broken() -> dict[str, list[Chip]]:
        if room.temperature > 100 and watched.thermostat.is_paused:
            raise ZeroDivisionError
        return room.read()

    monkeypatch.setattr(psutil, "sensors_temperatures", broken)
    with oversight(settings, events, threading.Event()) as watched:
        assert fit(work(tmp_path / "hot", watched, room)).steps == 24
    (said,) = [each["message"] for each in events.of("log") if "nobody watches the heat" in each["message"]]
    assert "no longer waits for them" in said and "ZeroDivisionError" in said


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_that_nobody_watches_is_said_in_the_cool_too(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> dict[str, list[Chip]]:
        raise ZeroDivisionError("broken sensor")

    events = Recorder()
    with oversight(settings, events, threading.Event()):
        monkeypatch.setattr(psutil, "sensors_temperatures", broken, raising=False)
        until("a line of the log", lambda: events.of("log"), 5)
    (said,) = [each["message"] for each in events.of("log") if "nobody watches the heat" in each["message"]]
    assert "broken sensor" in said and "pauses" not in said
    quiet = Recorder()
    Room(monkeypatch, None)
    with oversight(settings, quiet, threading.Event()):
        pass
    assert not quiet.of("log")


def test_one_that_is_finished_says_so_though_it_is_asked_to_end(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    Room(monkeypatch, None)
    events, stop = Recorder(), threading.Event()
    with oversight(settings.model_copy(update={"mail_after_minutes": 0.0001}), events, stop) as watched:
        fit(work(tmp_path / "cool", watched))
        stop.set()  # as SIGTERM does, while the candidate is written
        asked = time.monotonic()
    assert time.monotonic() - asked < 4
    assert [mail["subject"] for mail in events.mails if "finished" in mail["subject"]]
    assert len([row for row in _rows(settings) if row[0] == "interval"]) == 24


def test_the_stage_fails_with_the_reason_and_keeps_its_checkpoint(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, events = Bench(tmp_path, database_url), Recorder()
    Room(monkeypatch, None, cools=0.0).temperature = 110.0
    settings = bench.settings.model_copy(update={"cool_minutes": 0.005})
    spec = train.TrainSpec(MONTH, max_steps=4)
    with pytest.raises(StageFailed, match="too hot: after a pause"):
        run_stage(train.STAGE, spec, bench.inputs, "test", settings, events)
    assert Checkpoints(bench.checkpoints(spec)).newest() is not None
    assert [mail["subject"] for mail in events.mails] == [
        f"Theta {MONTH}: training continue {what}" for what in ("paused, 110 °C", "stopped")
    ]


def test_a_sensor_that_falls_silent_in_a_pause_counts_as_hot() -> None:
    told: list[str] = []
    stop = threading.Event()
    thermostat = Thermostat(Limits(83, 88, 75), 0.0, stop, lambda kind, sentence: told.append(kind))
    thermostat.see(Load())
    for degrees in (84, 84, 88):
        thermostat.see(Load(temperature_c=degrees))
    assert thermostat.is_paused and told == ["warm", "paused"]
    thermostat.see(Load())
    assert stop.is_set() and not thermostat.is_paused and "fell silent" in str(thermostat.stopped)


def test_clocks_lowered_for_heat_are_a_warning_at_any_temperature() -> None:
    told: list[str] = []
    thermostat = Thermostat(Limits(83, 88, 75), 60, threading.Event(), lambda kind, sentence: told.append(sentence))
    thermostat.see(Load(temperature_c=70, throttled=("power cap",)))
    thermostat.see(Load(temperature_c=70, throttled=("hardware thermal slowdown",)))
    assert len(told) == 1 and "lowers its clocks" in told[0]


def test_temperatures_in_the_wrong_order_are_refused(tmp_path: Path) -> None:
    wrong = Settings(home=tmp_path, temperature_limit=70)
    with pytest.raises(SettingsError, match="THETA_TEMPERATURE_LIMIT"):
        Limits.of(wrong, torch.device("cuda"))


def _rows(settings: Settings) -> list[tuple[str, int, float, float]]:
    with psycopg.connect(settings.require_database()) as connection:
        return connection.execute(
            "SELECT kind, step, temperature_c, paused_seconds FROM training_metrics ORDER BY step, kind"
        ).fetchall()
