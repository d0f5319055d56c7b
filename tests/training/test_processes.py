"""Several processes that train one model, on gloo: they come to what one process comes to, and end together."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from tests.training import together
from tests.training.packed import MONTH, Packed, database, packed
from theta_ml.events import EVENTS_FD
from theta_ml.training import trainer
from theta_ml.training.checkpoints import Checkpoints, is_complete
from theta_ml.training.fit import fit

__all__ = ["database", "packed"]  # fixtures
TOLERANCE = 1e-5
"""Largest difference in float32; seen: 5e-7."""
STOP_AT = 9
STAGE = """
from theta_ml.cli import stage
from theta_ml.training import train
stage.load_stage = lambda name: train.STAGE  # without the champion, which MLflow would have to say
stage.stage()
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[list[Any]], dict[str, torch.Tensor]]]:
    """One process' curve and weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "has_bfloat16", lambda device: False)
        work = together.small_fit(tmp_path_factory.mktemp("alone"))
        yield together.curve(fit(work)), dict(work.model.state_dict())


def same(curve: list[list[Any]], other: list[list[Any]]) -> None:
    assert [line[:2] for line in curve] == [line[:2] for line in other]
    assert max(abs(line[2] - line2[2]) for line, line2 in zip(curve, other, strict=True)) < TOLERANCE


@pytest.mark.parametrize("sharded", [False, True], ids=["data parallel", "sharded"])
def test_two_processes_match_one_and_one_goes_on_where_two_stopped(
    tmp_path: Path, alone: tuple[list[list[Any]], dict[str, torch.Tensor]], sharded: bool
) -> None:
    """Stopped in one of them alone, gone on with by both, and by one."""
    asked = {"folder": str(tmp_path / "two"), "copy": str(tmp_path / "one"), "out": str(tmp_path / "out.json")}
    asked_json = json.dumps(asked | {"sharded": sharded, "stop_at": STOP_AT})
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    run = subprocess.run(
        [*command, "-m", "tests.training.together", asked_json],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert run.returncode == 0, run.stderr
    told = json.loads((tmp_path / "out.json").read_text())
    assert told["from"] == STOP_AT and told["sharded"] == sharded
    same(told["curve"], alone[0])
    assert all(
        (torch.tensor(told["weights"][name]) - alone[1][name]).abs().max() < TOLERANCE for name in told["weights"]
    )
    done = fit(together.small_fit(tmp_path / "one"))
    assert done.resumed_from == STOP_AT
    same(together.curve(done), alone[0])


class Training:
    """`theta stage train` with two workers, and what it says."""

    def __init__(self, packed: Packed, *settings: str, **variables: str) -> None:
        events, child = os.pipe()
        environment = os.environ | {
            "THETA_HOME": str(packed.home),
            "THETA_DATABASE_URL": packed.database,
            "THETA_TRAIN_PROCESSES": "2",
            EVENTS_FD: str(child),
            **variables,
        }
        environment.pop("MLFLOW_TRACKING_URI", None)
        given = (part for setting in settings for part in ("--set", setting))
        command = ["-c", STAGE, "train", "--month", MONTH, "--input", packed.corpus]
        self.process = subprocess.Popen(
            [sys.executable, *command, "--input", packed.preflight, *given],
            env=environment,
            stdin=subprocess.PIPE,  # its end would end the stage
            stdout=subprocess.DEVNULL,
            pass_fds=[child],
        )
        os.close(child)
        self.events = map(json.loads, os.fdopen(events))

    def await_event(self, kind: str) -> dict[str, Any]:
        event = next((event for event in self.events if event["event"] == kind), None)
        assert event, "it ended; what it said is in the captured stderr"
        return event

    def processes(self) -> list[psutil.Process]:
        """torchrun and its workers."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def workers(self) -> list[psutil.Process]:
        return [each for each in self.processes() if "torch.distributed.run" not in each.cmdline()]


@contextmanager
def training(packed: Packed, *settings: str) -> Iterator[Training]:
    begun = Training(packed, *settings)
    try:
        yield begun
    finally:
        begun.process.kill()
        begun.process.wait()


@pytest.mark.faults
def test_a_stage_of_two_processes_stops_at_sigterm_and_goes_on(packed: Packed) -> None:
    settings = ("max_steps=40", "seed=1")
    with training(packed, *settings) as first:
        assert first.await_event("progress")["done"] > 0
        started = first.processes()
        assert len(first.workers()) == 2
        asked, began = time.monotonic(), time.time()
        first.process.send_signal(signal.SIGTERM)
        assert first.process.wait(60) == 143
        took = time.monotonic() - asked
        assert not psutil.wait_procs(started, timeout=20)[1]
        assert not list((packed.home / "jobs").iterdir())
    (folder,) = (packed.home / "checkpoints").iterdir()
    newest = Checkpoints(folder).newest()
    assert newest and is_complete(newest) and newest.name != "step-0"
    assert newest.stat().st_mtime - began < 5 and took < 20  # the second is torchrun's and torch's own way out
    assert (newest / "random-1.safetensors").exists()
    with training(packed, *settings) as second:
        result = second.await_event("result")
        assert second.process.wait(60) == 0
    made = packed.store.open(result["uri"])
    value = made.document["value"]
    assert value["steps"] == 40 and value["resumed_from"] > 0
    assert load_file(made.path / "model" / "model.safetensors")
    lines = [json.loads(line) for line in (made.path / "history.jsonl").read_text().splitlines()]
    validated = [line["step"] for line in lines if "validation_loss" in line]
    assert validated == sorted(set(validated))


@pytest.mark.faults
def test_a_worker_that_dies_ends_the_others_and_the_stage_says_so(packed: Packed) -> None:
    with training(packed, "max_steps=500", "seed=2") as begun:
        begun.await_event("progress")
        started, workers = begun.processes(), begun.workers()
        os.kill(workers[1].pid, signal.SIGKILL)
        error = begun.await_event("error")
        assert error["kind"] == "retry" and "of 2 was killed" in error["message"]
        assert begun.process.wait(60) == 75
        assert not psutil.wait_procs(started, timeout=20)[1]


@pytest.mark.faults
def test_workers_end_with_a_stage_that_is_killed(packed: Packed) -> None:
    with training(packed, "max_steps=500", "seed=3") as begun:
        begun.await_event("progress")
        started = begun.processes()
        assert len(started) >= 3
        first = next(worker for worker in begun.workers() if worker.environ()["RANK"] == "0")
        first.suspend()  # alive, and in no hurry
        begun.process.kill()
        begun.process.wait(10)
        with training(packed, "max_steps=500", "seed=3") as again:
            log = again.await_event("log")
            while "waiting for the processes of an earlier attempt" not in log["message"]:
                log = again.await_event("log")
            assert first.is_running()
            first.resume()
            again.await_event("progress")
            assert not psutil.wait_procs(started, timeout=20)[1]


def test_a_workers_reason_is_the_stages(packed: Packed) -> None:
    with training(packed, "max_steps=500", "seed=4", "rate=1e30") as begun:
        error = begun.await_event("error")
        assert error["kind"] == "failed" and "lower the peak learning rate of 1e+30" in error["message"]
        assert begun.process.wait(60) == 65
