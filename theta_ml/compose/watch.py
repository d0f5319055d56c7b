"""A container's first process: starts its role's program, looks whether it is well, and ends where it is not.

That a process lives says little: after a restart of Postgres a scheduler's loop may stand still for ever. Docker looks
at a file that is touched while all is well (the image's HEALTHCHECK), and starts a container anew that has ended.
"""

import logging
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import psutil

from theta_ml.compose.roles import node
from theta_ml.local.health import Probes
from theta_ml.local.programs import Program
from theta_ml.local.workers import QUEUES, Broker

log = logging.getLogger("theta.compose")

HEALTHY = Path("/tmp/theta-healthy")  # noqa: S108  the container's own
"""Its age is what the image's HEALTHCHECK looks at."""
INTERVAL = 10.0
"""Seconds between two looks."""
START_UP = 300.0
"""Seconds that a program has to become well for the first time; on a busy machine all start at once."""
UNWELL = 90.0
"""Seconds that it may then be unwell until it is ended."""
CHECKPOINT = 25.0
"""Seconds after SIGTERM in which a worker's tasks may end by themselves; then its stages are told to write their
checkpoint. docker-compose.yaml leaves 45 until it kills."""

Probe = Callable[[], str | None]


@dataclass
class Patience:
    """Since when the program has been unwell."""

    begun: float
    """When it was started, or last had an excuse."""
    grown: bool = False
    """It has been well once."""
    since: float | None = None

    def exhausted(self, fault: str | None, excuse: str | None, now: float) -> bool:
        """Note a look's answer. True where the program is to be ended: not while it waits for another one."""
        self.grown = self.grown or fault is None
        if fault is None or excuse:
            self.begun, self.since = now, None
            return False
        self.since = self.since or now
        return now - (self.since if self.grown else self.begun) >= (UNWELL if self.grown else START_UP)


def probe(role: str, probes: Probes, broker: Broker | None) -> Probe:
    """What is wrong with the role's program, in words; None where all is well."""
    started = time.time()
    if role in QUEUES:
        assert broker
        return lambda: broker.worker_fault(node(role))
    return lambda: probes.check(role, started)


def blameless(role: str, probes: Probes, broker: Broker | None) -> str | None:
    """What the program waits for that is no fault of its own, in words: starting it anew would not help."""
    if role in ("mailbox", "api-server"):
        return None
    if fault := probes.check("postgres", 0):
        return f"Postgres is away ({fault})"
    return broker.fault() if broker and role in ("scheduler", *QUEUES) else None


def run(program: Program, look: Probe, excuse: Probe) -> int:
    """The program's exit status; 1 where it was ended for being unwell."""
    HEALTHY.unlink(missing_ok=True)
    child = subprocess.Popen(program.command, env=program.environment)
    stopping = _pass_on_signals(child)
    patience = Patience(time.monotonic())
    told: str | None = "starting"
    while True:
        try:
            return child.wait(INTERVAL if patience.grown and not stopping else INTERVAL / 5)
        except subprocess.TimeoutExpired:
            pass
        if stopping:
            _checkpoint(child, stopping[0])
            continue
        fault = look()
        if fault is None:
            HEALTHY.touch()
        if fault != told:
            log.warning("%s: %s", program.name, fault or "healthy")
            told = fault
        if patience.exhausted(fault, excuse() if fault else None, time.monotonic()):
            log.error("%s is ended, to be started anew: %s", program.name, fault)
            child.kill()
            child.wait()
            return 1


def _pass_on_signals(child: "subprocess.Popen[bytes]") -> list[float]:
    """SIGTERM and SIGINT go to the child as SIGTERM; the list returned then holds when the first came."""
    came: list[float] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        came.append(time.monotonic())
        child.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    return came


def _checkpoint(child: "subprocess.Popen[bytes]", asked: float) -> None:
    """Tells a worker's stages to end, once they have had their time."""
    if time.monotonic() - asked < CHECKPOINT:
        return
    try:
        below = psutil.Process(child.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return  # it has just ended
    for process in below:
        try:
            if "theta_ml" in process.cmdline():
                process.terminate()
        except psutil.NoSuchProcess:
            continue  # this one has ended, and may wait as a zombie for its parent; the others are still to be told
