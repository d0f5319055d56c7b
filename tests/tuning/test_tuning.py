"""A study from its first trial to its recipe, with what may come between, in a real Postgres."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.training.oversight.hot import Recorder, Room
from tests.tuning.small import Home, shrink
from theta_ml.events import Events
from theta_ml.settings import SettingsError
from theta_ml.stage import StageFailed, StageSkipped, run_stage
from theta_ml.training.lock import training_lock
from theta_ml.training.recipe import find_recipe, read_recipe
from theta_ml.tuning import study, winner
from theta_ml.tuning.candidate import Candidate
from theta_ml.tuning.spec import Winner
from theta_ml.tuning.trial import Tuning
from theta_ml.tuning.winner import find_winner

TRIAL = """
import sys
from pathlib import Path
import pytest, torch
torch.set_num_threads(1)
from tests.tuning import small
small.shrink(pytest.MonkeyPatch(), checkpoint_seconds=0.0)
home = small.Home(Path(sys.argv[1]), sys.argv[2])
home.tuning(sys.argv[3]).next_trial()
"""


@pytest.fixture
def home(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("THETA_HOME", str(tmp_path))
    shrink(monkeypatch)
    return Home(tmp_path, database_url)


def _all_trials(tuning: Tuning) -> str:
    """Why there are no more."""
    while True:
        try:
            tuning.next_trial()
        except StageSkipped as over:
            return str(over)


def test_a_better_point_becomes_a_recipe_and_none_is_overwritten(home: Home) -> None:
    tuning = home.tuning(home.study(minutes=30, trials=5))
    assert _all_trials(tuning) == "all 5 trials are made"
    study = tuning.study()
    assert study.trials[0].params == study.user_attrs["default"]
    assert study.trials[0].state.name == "COMPLETE"  # whatever the pruner thinks
    budget = {trial.params["rows_per_step"] for trial in study.trials}
    assert len(budget) > 1
    found = find_winner(tuning)
    assert found.loss is not None and found.default_loss is not None
    assert found.loss < found.default_loss
    assert found.loss == study.best_value
    recipe = read_recipe(Path(found.file))
    assert recipe == find_recipe("tuned-2026-02")
    assert recipe.hyper["rate_scratch"] == pytest.approx(found.params["rate"], rel=1e-3)
    assert recipe.preset_of("tiny").hyper.rows_per_step == found.params["rows_per_step"]
    assert f"{found.default_loss:.4f}" in Path(found.file).read_text()
    assert find_winner(tuning).recipe == "tuned-2026-02"  # the same again
    Path(found.file).write_text("summary: mine\nstart: scratch\n")
    assert find_winner(tuning).recipe == "tuned-2026-02-2"
    assert Path(found.file).read_text() == "summary: mine\nstart: scratch\n"


def test_optunas_tables_are_in_a_schema_of_their_own(home: Home, database_url: str) -> None:
    home.study(minutes=30, trials=2)
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT schemaname FROM pg_tables WHERE tablename IN ('trials', 'alembic_version')")
        assert {schema for (schema,) in rows} == {"tuning"}


def test_the_same_command_goes_on_with_the_same_study(home: Home, capfd: pytest.CaptureFixture[str]) -> None:
    first = home.name(home.study("one", minutes=30, trials=2))
    assert home.name(home.study("two", minutes=30, trials=2)) == first
    assert home.name(home.study("two", minutes=30, trials=3)) != first
    second = home.name(home.study("three", minutes=30, trials=2, new=True))
    assert second == first[:-1] + "2"
    assert home.name(home.study("three", minutes=30, trials=2, new=True)) == second
    assert home.name(home.study("four", minutes=30, trials=2)) == second
    assert capfd.readouterr().out == ""


@pytest.mark.faults
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_trial_that_was_cut_short_goes_on_from_its_checkpoint(home: Home, how: signal.Signals) -> None:
    uri = home.study(minutes=30, trials=2)
    tuning = home.tuning(uri)
    folder = tuning.folder(0)
    environment = os.environ | {"THETA_HOME": str(home.settings.home)}
    command = [sys.executable, "-c", TRIAL, str(home.settings.home), home.settings.require_database(), uri]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    _await_checkpoint(folder, 5, process)
    process.send_signal(how)
    process.wait(30)
    result = tuning.next_trial()
    trials = tuning.study().trials
    assert [trial.state.name for trial in trials] == ["FAIL", "COMPLETE"]
    assert trials[1].params == trials[0].params == tuning.study().user_attrs["default"]
    assert result.number == 1
    assert not folder.exists()
    history = json.loads(trials[1].user_attrs["history"])
    steps = [line["step"] for line in history if "train_loss" in line]
    assert steps == list(range(1, 25))  # one curve, without a seam
    reports = [line["validation_loss"] for line in history if "validation_loss" in line]
    assert list(trials[1].intermediate_values.values()) == pytest.approx(reports, abs=1e-5)


def _await_checkpoint(folder: Path, step: int, process: "subprocess.Popen[bytes]") -> None:
    from theta_ml.training.checkpoints import Checkpoints, step_of

    give_up = time.monotonic() + 90
    while (newest := Checkpoints(folder).newest()) is None or step_of(newest) < step:
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < give_up
        time.sleep(0.005)


def test_a_trial_that_is_too_hot_pauses_and_one_that_never_cools_waits_with_its_checkpoint(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, events = Room(monkeypatch, None, cools=0.0), Recorder()
    tuning = home.tuning(home.study(minutes=30, trials=2))
    hot = replace(tuning, events=events, settings=tuning.settings.model_copy(update={"cool_minutes": 0.005}))
    room.temperature = 110.0
    with pytest.raises(StageFailed, match="too hot: after a pause"):
        hot.next_trial()
    assert [trial.state.name for trial in hot.study().trials] == ["FAIL", "WAITING"]
    assert [mail["subject"] for mail in events.mails] == [
        f"Theta 2026-02: training continue, trial 0, {what}" for what in ("paused, 110 °C", "stopped")
    ]
    assert "theta_retrain" not in events.mails[0]["text"]
    room.cools, room.temperature = 4.0, 110.0
    events.seen.clear()
    hot = replace(hot, settings=tuning.settings)
    result = hot.next_trial()
    assert (result.number, result.state) == (1, "complete")
    assert any("the training goes on" in each["message"] for each in events.of("log"))
    assert not [mail for mail in events.mails if "started" in mail["subject"] or "finished" in mail["subject"]]


def test_wrong_temperatures_cost_no_trial(home: Home) -> None:
    tuning = home.tuning(home.study(minutes=30, trials=2))
    wrong = replace(tuning, settings=tuning.settings.model_copy(update={"temperature_limit": 10}))
    with pytest.raises(SettingsError, match="THETA_TEMPERATURE_LIMIT"):
        wrong.next_trial()
    assert [trial.state.name for trial in tuning.study().trials] == ["WAITING"]


def test_two_studies_begun_at_once_are_one(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second waits at the lock while the first begins the study."""
    lock, first = training_lock, list[str]()

    @contextmanager
    def waits(*args: Any) -> Iterator[None]:
        monkeypatch.setattr(study, "training_lock", lock)
        first.append(home.name(home.study("one", minutes=30, trials=2)))
        with lock(*args):
            yield

    monkeypatch.setattr(study, "training_lock", waits)
    assert home.name(home.study("two", minutes=30, trials=2)) == first[0]
    assert first[0].endswith("-1")


def test_where_every_trial_failed_there_is_no_winner(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    tuning = home.tuning(uri := home.study(minutes=30, trials=2))

    def fails(*_: Any, **__: Any) -> None:
        raise StageFailed("broken")

    monkeypatch.setattr(Candidate, "fit", fails)
    with pytest.raises(StageFailed, match="broken"):
        tuning.next_trial()
    with pytest.raises(StageFailed, match="no trial came to its end, 1 failed"), Events("winner") as events:
        run_stage(winner.STAGE, winner.WinnerSpec("2026-02"), [home.corpus, uri], "run", home.settings, events)


def test_a_grid_ends_when_all_its_points_are_tried(home: Home, tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text("rate: {times: true, low: 1, high: 100, grid: [10, 100]}\n")
    tuning = home.tuning(home.study(minutes=30, sampler="grid", pruner="none", space=str(space)))
    assert _all_trials(tuning) == "every point of the grid is tried"
    rates = sorted({trial.params["rate"] for trial in tuning.study().trials})
    assert rates == pytest.approx([1e-6, 1e-5, 1e-4])


def test_too_few_minutes_say_how_many_it_takes(home: Home) -> None:
    with pytest.raises(StageFailed, match=r"give it .* minutes, or fewer trials"):
        home.study(minutes=0.01, trials=400)


def test_no_better_point_writes_no_recipe(home: Home, tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text("rate: {times: true, low: 1.0e-9, high: 1.0e-8, log: true}\n")
    tuning = home.tuning(home.study(minutes=30, trials=2, sampler="random", space=str(space)))
    assert not find_winner(tuning).recipe
    _all_trials(tuning)
    found = find_winner(tuning)
    assert isinstance(found, Winner)
    assert (found.recipe, list((tmp_path / "recipes").glob("*"))) == (None, [])
    assert "nothing beat the recipe as it is" in found.sentence
