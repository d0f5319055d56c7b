"""The stages `preflight` and `train`, as `theta stage` runs them; a killed training ends like one that was not."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg
import pytest
from safetensors.torch import load_file

from tests.corpus.snapshots import conversations, passed_checks, write_artifact, write_snapshot
from theta_ml.champion import Champion
from theta_ml.corpus import prepare
from theta_ml.events import Events
from theta_ml.model.generation import generate_reply
from theta_ml.model.loading import load
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, content_key, run_stage
from theta_ml.store import Store
from theta_ml.training import train
from theta_ml.training.checkpoints import Checkpoints, is_complete

MONTH = "2026-01"
STEPS = 30
LEARNED = ("step", "epoch", "train_loss", "learning_rate", "gradient_norm", "validation_loss", "epoch_train_loss")
RUN = """
import sys, json
from pathlib import Path
import theta_ml.training.presets as presets
from dataclasses import replace
from theta_ml.events import Events
from theta_ml.settings import load_settings
import torch
from theta_ml.stage import parse_spec, run_stage
torch.set_num_threads(1)
hyper = replace(presets.TINY.hyper, checkpoint_seconds=0.0, rows_per_step=4, rows_at_once=2, epochs=20)
shape = presets.ModelShape(hidden_size=32, layers=2, heads=2, intermediate_size=64)
presets.PRESETS["tiny"] = presets.Preset("tiny", shape, hyper)
from theta_ml.training import train
spec = parse_spec(train.STAGE, json.loads(sys.argv[1]))
with Events("train") as events:
    run_stage(train.STAGE, spec, sys.argv[2:], "test", load_settings(), events)
"""


class Bench:
    """A home with a packed corpus in it, and trainings in processes of their own."""

    def __init__(self, home: Path, database_url: str) -> None:
        self.home, self.database_url = home, database_url
        self.settings = Settings(home=home, database_url=database_url)  # type: ignore[arg-type]
        self.store = Store(self.settings.artifacts, home / "cache")
        snapshot = write_snapshot(self.store, {MONTH: conversations(MONTH, 300)})
        spec = prepare.PrepareSpec(MONTH)
        with Events("prepare") as events:
            inputs = [snapshot, *passed_checks(self.store)]
            self.corpus = run_stage(prepare.STAGE, spec, inputs, "test", self.settings, events).uri
        self.inputs = [self.corpus, write_artifact(self.store, "preflight", {"passed": True, "sentence": ""})]

    def begin(self, spec: train.TrainSpec) -> "subprocess.Popen[bytes]":
        environment = os.environ | {"THETA_HOME": str(self.home), "THETA_DATABASE_URL": self.database_url}
        environment.pop("MLFLOW_TRACKING_URI", None)
        command = [sys.executable, "-c", RUN, json.dumps(asdict(spec)), *self.inputs]
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)

    def finish(self, spec: train.TrainSpec) -> str:
        """What it said."""
        process = self.begin(spec)
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said.decode()
        return " ".join(said.decode().split())

    def key(self, spec: train.TrainSpec) -> str:
        artifacts = Inputs((a.stage, a) for a in map(self.store.open, self.inputs))
        return content_key(train.STAGE, spec, artifacts, "test")

    def checkpoints(self, spec: train.TrainSpec) -> Path:
        return self.home / "checkpoints" / self.key(spec)

    def await_step(self, spec: train.TrainSpec, step: int, process: "subprocess.Popen[bytes]") -> None:
        """Until a checkpoint of this step or a later one is complete."""
        checkpoints, give_up = Checkpoints(self.checkpoints(spec)), time.monotonic() + 60
        while (newest := checkpoints.newest()) is None or int(newest.name.removeprefix("step-")) < step:
            assert process.poll() is None and time.monotonic() < give_up
            time.sleep(0.005)

    def model(self, spec: train.TrainSpec) -> tuple[dict[str, Any], Path]:
        artifact = self.store.find("train", self.key(spec))
        assert artifact is not None
        return artifact.document["value"], artifact.path


@pytest.fixture
def bench(tmp_path: Path, database_url: str) -> Bench:
    return Bench(tmp_path, database_url)


def losses(path: Path) -> list[dict[str, float]]:
    """The history without what depends on the clock and the machine."""
    lines = map(json.loads, (path / "history.jsonl").read_text().splitlines())
    return [{name: line[name] for name in LEARNED if name in line} for line in lines]


def test_a_training_killed_twice_ends_with_the_weights_of_one_that_was_not(bench: Bench, tmp_path: Path) -> None:
    spec = train.TrainSpec(MONTH, max_steps=STEPS)
    killed = bench.begin(spec)
    bench.await_step(spec, 5, killed)
    killed.kill()
    killed.communicate()
    torn = bench.checkpoints(spec) / "step-999"
    torn.mkdir()  # as a crash of the machine may leave one
    (torn / "model.safetensors").write_bytes(b"half")
    asked = bench.begin(spec)
    bench.await_step(spec, 14, asked)
    asked.send_signal(signal.SIGTERM)
    began = time.monotonic()
    _, said = asked.communicate(timeout=30)
    assert asked.returncode == 143 and time.monotonic() - began < 5, said.decode()
    assert len(list((tmp_path / "artifacts" / ".partial").iterdir())) == 1  # the killed one's; SIGTERM leaves nothing
    assert "going on from step" in bench.finish(spec)
    value, path = bench.model(spec)
    assert value["steps"] == STEPS and value["resumed_from"] >= 14

    calm = tmp_path / "calm"
    calm.mkdir()
    (calm / "artifacts").symlink_to(tmp_path / "artifacts")
    path = path.rename(tmp_path / "interrupted")
    bench.home = calm
    bench.finish(spec)
    calm_value, calm_path = bench.model(spec)
    assert calm_value["resumed_from"] is None
    one, other = (load_file(folder / "model" / "model.safetensors") for folder in (path, calm_path))
    assert all((one[name] == other[name]).all() for name in one)
    assert losses(path) == losses(calm_path)
    with psycopg.connect(bench.database_url) as connection:
        rows = connection.execute(
            "SELECT epoch, step, recipe, device FROM training_metrics WHERE kind = 'validation' ORDER BY 1"
        ).fetchall()
    assert [row[0] for row in rows] == list(range(1, value["epochs"] + 1))
    assert rows[-1][1] == STEPS and {row[2:] for row in rows} == {("continue", "cpu")}


def test_a_second_attempt_waits_and_finds_the_first_ones_work(bench: Bench) -> None:
    spec = train.TrainSpec(MONTH, max_steps=STEPS)
    first = bench.begin(spec)
    bench.await_step(spec, 3, first)
    first.send_signal(signal.SIGSTOP)  # still alive, and in no hurry
    second = bench.begin(spec)
    assert second.stderr
    lines = []
    while not any("waiting for another training" in line for line in lines):
        lines.append(second.stderr.readline().decode())
        assert lines[-1], lines
    first.send_signal(signal.SIGCONT)
    _, said = second.communicate(timeout=60)
    words = " ".join(("".join(lines) + said.decode()).split())
    assert second.returncode == 0 and first.wait(10) == 0
    assert f"process {first.pid} of run test" in words
    assert "which the other training made" in words or f"going on from step {STEPS}" in words
    first.communicate()
    value, path = bench.model(spec)
    assert len(losses(path)) == STEPS + value["epochs"]
    assert is_complete(bench.checkpoints(spec) / f"step-{STEPS}")


def test_a_champion_goes_on_learning_and_its_descendant_speaks(bench: Bench) -> None:
    first = train.TrainSpec(MONTH, max_steps=STEPS)
    bench.finish(first)
    scratch, path = bench.model(first)
    assert scratch["start"] == "scratch" and scratch["preset"] == "tiny"
    champion = Champion(3, MONTH, bench.key(first), bench.store.uri("train", bench.key(first)))
    second = train.TrainSpec(MONTH, champion=champion, max_steps=STEPS)
    bench.finish(second)
    descendant, path = bench.model(second)
    assert descendant["start"] == "champion v3"
    assert descendant["validation_loss"] < scratch["validation_loss"]
    assert not bench.checkpoints(first).exists() and bench.checkpoints(second).exists()
    model, tokenizer = load(path / "model", "cpu")
    assert generate_reply(model, tokenizer, [{"role": "user", "content": "Hello"}])


def test_a_loss_that_is_no_number_fails_and_says_what_to_change(bench: Bench) -> None:
    spec = train.TrainSpec(MONTH, rate=1e30, max_steps=STEPS)
    process = bench.begin(spec)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "StageFailed" in said.decode() and "lower the peak learning rate of 1e+30" in said.decode()


def test_wrong_parameters_say_what_to_choose() -> None:
    with pytest.raises(ValueError, match="choose tiny or base"):
        train.TrainSpec(MONTH, preset="huge")
    with pytest.raises(ValueError, match="choose at least 1"):
        train.TrainSpec(MONTH, epochs=0)
    with pytest.raises(ValueError, match="choose more than 0"):
        train.TrainSpec(MONTH, rate=0.0)
