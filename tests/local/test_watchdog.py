"""When the watchdog loses patience, and whom it leaves alone."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from theta_ml.local.health import Probes
from theta_ml.local.layout import MARKER, Layout
from theta_ml.local.outage import Watch
from theta_ml.local.plan import Plan
from theta_ml.local.secret import Secrets
from theta_ml.local.supervisor import ProgramState, Supervisor
from theta_ml.local.watchdog import QUEUED, START_UP, UNWELL, Patience, Watchdog, reap_idle_workers

BORN = 1000.0


def scheduler(pid: int = 7, started: float = BORN) -> ProgramState:
    return ProgramState("scheduler", "RUNNING", pid, int(started))


def test_a_service_may_take_its_time_to_start() -> None:
    patience = Patience()
    assert not patience.exhausted(scheduler(), "no heartbeat yet", BORN + START_UP - 1)
    assert not patience.exhausted(scheduler(), "no heartbeat yet", BORN + START_UP)
    assert patience.exhausted(scheduler(), "no heartbeat yet", BORN + START_UP + UNWELL)


def test_one_that_was_well_has_no_second_start() -> None:
    patience = Patience()
    assert not patience.exhausted(scheduler(), None, BORN + 5)
    assert not patience.exhausted(scheduler(), "no heartbeat for 31 s", BORN + 40)
    assert patience.exhausted(scheduler(), "no heartbeat for 60 s", BORN + 40 + UNWELL)


def test_its_successor_has() -> None:
    patience = Patience()
    patience.exhausted(scheduler(), None, BORN + 5)
    successor = scheduler(pid=8, started=BORN + 60)
    assert not patience.exhausted(successor, "no heartbeat yet", BORN + 60 + START_UP - 1)


def test_a_moment_of_health_is_enough() -> None:
    patience = Patience()
    patience.exhausted(scheduler(), None, BORN + 5)
    patience.exhausted(scheduler(), "no heartbeat for 31 s", BORN + 40)
    assert not patience.exhausted(scheduler(), None, BORN + 45)
    assert not patience.exhausted(scheduler(), "no heartbeat for 31 s", BORN + 40 + UNWELL)


def sleeper(home: Path, title: str, owner: str | None = None) -> subprocess.Popen[bytes]:
    """A process with a title like Airflow's, of the stack of this home."""
    code = "import time, setproctitle, sys; setproctitle.setproctitle(sys.argv[1]); print(flush=True); time.sleep(60)"
    env = {**os.environ, "SPT_NOENV": "1", MARKER: owner or str(home)}
    process = subprocess.Popen([sys.executable, "-c", code, title], env=env, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    made = {
        "idle": sleeper(tmp_path, "airflow worker -- LocalExecutor: <idle>"),
        "busy": sleeper(tmp_path, "airflow worker -- LocalExecutor: TaskInstance theta_retrain.train"),
        "other": sleeper(tmp_path, "airflow worker -- LocalExecutor: <idle>", owner="/another/home"),
    }
    yield made
    for process in made.values():
        process.kill()
        process.wait()


def test_only_idle_workers_of_a_lost_scheduler_of_this_stack_are_ended(
    tmp_path: Path, workers: dict[str, subprocess.Popen[bytes]]
) -> None:
    reap_idle_workers(Layout(tmp_path), scheduler=os.getpid())  # their parent: they are its workers
    assert all(process.poll() is None for process in workers.values())

    reap_idle_workers(Layout(tmp_path), scheduler=1)
    assert workers["idle"].wait(5) == -signal.SIGKILL
    assert workers["busy"].poll() is None
    assert workers["other"].poll() is None


class Answers(Probes):
    """Probes that answer what a test wants."""

    queue: tuple[float, int]

    def oldest_queued(self) -> tuple[float, int]:
        return self.queue


@pytest.mark.parametrize(
    ("queue", "restarted"),
    [((QUEUED + 1, 0), True), ((QUEUED + 1, 4), False), ((QUEUED - 1, 0), False), ((0.0, 0), False)],
)
def test_a_task_queued_for_long_beside_free_slots_restarts_the_scheduler(
    tmp_path: Path, queue: tuple[float, int], restarted: bool
) -> None:
    plan = Plan(Layout(tmp_path), 1, 2, 3)
    probes = Answers(plan, Secrets())
    object.__setattr__(probes, "queue", queue)
    process = sleeper(tmp_path, "scheduler")
    try:
        watchdog = Watchdog(plan, probes, Supervisor(plan.layout), Watch(plan.layout))
        watchdog._look_at_queue({"scheduler": scheduler(process.pid, started=0)})
        psutil.wait_procs([process], timeout=0.5)
        assert (process.poll() == -signal.SIGKILL) == restarted
    finally:
        process.kill()
        process.wait()
