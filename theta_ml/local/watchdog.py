"""Brings back what lives but does not work.

supervisord restarts a process that ends. This restarts one that goes on without doing its work: a scheduler
whose loop stopped while its process lives, a server that answers no more, an executor that lost the lock of its
task queue with a killed worker. Where no restart helps, it says so by mail (see `outage`).
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg

from theta_ml.local.health import Probes
from theta_ml.local.layout import Layout, StackError
from theta_ml.local.outage import Watch
from theta_ml.local.plan import Plan, kept_plan
from theta_ml.local.rotation import rotate
from theta_ml.local.secret import load_secrets
from theta_ml.local.strays import marked
from theta_ml.local.supervisor import RUNNING, ProgramState, Supervisor
from theta_ml.local.workers import QUEUES, node_of

log = logging.getLogger("watchdog")

INTERVAL = 5.0
"""Seconds between two rounds."""

START_UP = 90.0
"""Seconds that a service has to become well for the first time."""

UNWELL = 20.0
"""Seconds that it may then be unwell before it is restarted; a late heartbeat has been late for 30 already."""

UNWELL_WORKER = 90.0
"""The same of a Celery worker: after a long absence of the broker it takes half a minute to come back to it by itself,
and what it runs meanwhile ends with it."""

QUEUED = 30.0
"""Seconds that a task may wait in the executor while a slot is free."""

SLOTS = 4
"""Tasks that run at once: Airflow's `parallelism`."""

_EXECUTOR = "airflow worker -- LocalExecutor"


@dataclass
class Patience:
    """Since when each process has been unwell; says when it has been so for too long."""

    since: dict[str, float] = field(default_factory=dict)
    grown: dict[str, int] = field(default_factory=dict)
    """Pid of each service that has been well once: its start is over."""

    def exhausted(self, state: ProgramState, fault: str | None, now: float) -> bool:
        """Note a probe's answer. True where the service is to be restarted."""
        if fault is None:
            self.grown[state.name] = state.pid
        starting = self.grown.get(state.name) != state.pid and now - state.started < START_UP
        if fault is None or starting:
            self.since.pop(state.name, None)
            return False
        patience = UNWELL_WORKER if state.name in QUEUES else UNWELL
        return now - self.since.setdefault(state.name, now) >= patience


@dataclass
class Watchdog:
    """One round looks at everything once."""

    plan: Plan
    probes: Probes
    supervisor: Supervisor
    outages: Watch
    patience: Patience = field(default_factory=Patience)

    def round(self) -> None:
        states = self.supervisor.states()
        faults = {name: self._look_at(states[name]) for name in self.plan.services}
        if states["scheduler"].pid:
            self._look_at_queue(states)
            reap_idle_workers(self.plan.layout, states["scheduler"].pid)
        for name in self.plan.services:
            rotate(self.plan.layout.log(name))
        # Last, for it may take its time.
        self.outages.note({name: fault for name in self.plan.airflow_services if (fault := faults[name])}, time.time())

    def _look_at(self, state: ProgramState) -> str | None:
        """What is wrong with the service, restarted where it has been for too long."""
        if not state.pid or state.state not in RUNNING:
            return f"its process is {state.state}"  # stopped by hand: it is not started again
        fault = self.probes.check(state.name, state.started)
        # Nobody's heart beats without the database; the database itself is looked at.
        if fault and (self._blameless(state.name) or self._without_broker(state.name)):
            self.patience.since.pop(state.name, None)  # it has its whole time once that is back
        elif self.patience.exhausted(state, fault, time.time()):
            self._restart(state, fault or "")
        return fault

    def _blameless(self, name: str) -> bool:
        return name not in ("postgres", "mailbox") and "postgres" in self.patience.since

    def _without_broker(self, name: str) -> bool:
        """Whether it waits for a broker that is away: the scheduler may hang while it sends."""
        return self.plan.celery and name in ("scheduler", *QUEUES) and self.probes.broker.fault() is not None

    def _look_at_queue(self, states: Mapping[str, ProgramState]) -> None:
        scheduler = states["scheduler"]
        try:
            waited, running = self.probes.oldest_queued()
        except psycopg.OperationalError:
            return  # the database's own probe says so
        # A scheduler that has just started first waits for its predecessor's tasks to be given up.
        if running >= SLOTS or waited <= QUEUED or time.time() - scheduler.started <= START_UP:
            return
        if self.plan.celery:
            self._look_at_workers(states)  # what is queued is in the broker's hands, not in the scheduler's
        else:
            self._restart(scheduler, f"a task has been queued for {waited:.0f} s with {SLOTS - running} slots free")

    def _look_at_workers(self, states: Mapping[str, ProgramState]) -> None:
        for name, queue in QUEUES.items():
            grown = self.patience.grown.get(name) == states[name].pid
            if grown and self.probes.broker.leaves_waiting(node_of(self.plan.layout, name), queue):
                self._restart(states[name], f"it has nothing to do, and leaves the queue {queue} waiting")

    def _restart(self, state: ProgramState, fault: str) -> None:
        # Not asked to end: it hangs, and a scheduler would wait for its tasks, which are better left alone.
        # Only PostgreSQL is told rather than killed, so that its backends end with it.
        number = signal.SIGQUIT if state.name == "postgres" else signal.SIGKILL
        log.warning("restarting %s (pid %d): %s", state.name, state.pid, fault)
        self.patience.since.pop(state.name, None)
        for process in _server_and_helpers(state):
            process.send_signal(number)


def _server_and_helpers(state: ProgramState) -> Iterator[psutil.Process]:
    """What is to be killed of a program: all of it, but of the scheduler only itself, for its tasks go on."""
    try:
        process = psutil.Process(state.pid)
        if state.name not in ("scheduler", "postgres"):
            yield from process.children(recursive=True)
        yield process
    except psutil.NoSuchProcess:
        return


def reap_idle_workers(layout: Layout, scheduler: int) -> None:
    """End executor workers of a scheduler that is gone, once they have no task.

    Their queue's other end is among themselves: they would wait for ever. One with a task is left alone.
    """
    for process in marked(layout):
        try:
            title = " ".join(process.cmdline())
            if title.startswith(_EXECUTOR) and title.rstrip().endswith("<idle>") and process.ppid() != scheduler:
                log.warning("ending executor worker %d: its scheduler is gone and it has no task", process.pid)
                process.kill()
        except psutil.Error:
            continue  # gone meanwhile


def watch(layout: Layout) -> None:
    """Run until SIGTERM. Raises StackError where there is no stack to watch."""
    plan = kept_plan(layout)
    if plan is None:
        raise StackError(f"nothing to watch: {layout.run / 'plan.json'} is missing")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    watchdog = Watchdog(plan, Probes(plan, load_secrets(layout)), Supervisor(layout), Watch(layout))
    log.info("watching %s (pid %d)", ", ".join(plan.services), os.getpid())
    while not stop.wait(INTERVAL):
        watchdog.round()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    watch(Layout(Path(sys.argv[1])))
