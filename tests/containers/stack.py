"""docker-compose.yaml, brought up in a folder of its own, and `theta` on the host that talks to it."""

import json
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import REPOSITORY, run_theta
from tests.containers.engine import Engine
from tests.containers.images import THETA
from theta_ml.bench.stack import clean_environment, free_ports
from theta_ml.compose.env_file import ENV_FILE, PORTS, read, seen_from_here

HEALTHY_SECONDS = 900
PROJECT = "theta-test"
SCALE = ("--scale", "worker-gpu=2")
"""One to kill, and one to go on with what it did."""


@dataclass(frozen=True)
class Containers:
    """A running set of containers."""

    engine: Engine
    folder: Path
    files: list[str]
    env: dict[str, str]
    """Of `theta` on the host."""

    def compose(self, *arguments: str, timeout: float = 600, check: bool = True) -> str:
        files = [part for name in self.files for part in ("-f", name)]
        command = ["docker-compose", "-p", PROJECT, *files, *arguments]
        env = self.engine.env | {"THETA_IMAGE": THETA}
        done = subprocess.run(
            command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert not check or done.returncode == 0, f"{shlex.join(command)}\n{done.stdout[-4000:]}{done.stderr[-8000:]}"
        return done.stdout

    def theta(self, *arguments: str, timeout: float = 1800) -> str:
        done = run_theta(self.env, *arguments, timeout=timeout)
        assert done.returncode == 0, f"theta {shlex.join(arguments)}\n{done.stdout}\n{done.stderr}\n{self.faults()}"
        return done.stdout

    def health(self) -> dict[str, str]:
        """Of each container: its name, and `healthy`, `starting`, `unhealthy`, or how it ended."""
        ids = self.compose("ps", "-q").split()
        found = json.loads(self.engine.docker("inspect", *ids)) if ids else []
        return {each["Name"].lstrip("/"): _state(each["State"]) for each in found}

    def containers(self, service: str) -> dict[str, str]:
        """Host name of each running container of the service, and its id."""
        ids = self.compose("ps", "-q", service).split()
        found = json.loads(self.engine.docker("inspect", *ids)) if ids else []
        return {each["Config"]["Hostname"]: each["Id"] for each in found if each["State"]["Running"]}

    def up(self) -> None:
        self.compose("up", "-d", *SCALE, timeout=1800)
        self.await_health()

    def await_health(self, seconds: float = HEALTHY_SECONDS) -> None:
        until("every container is healthy", self.is_healthy, seconds, self.faults)

    def is_healthy(self) -> bool:
        states = self.health()
        return bool(states) and set(states.values()) <= {"healthy", "ended 0"}

    def faults(self) -> str:
        """The state of all, and the last lines of those that are not well."""
        states = self.health()
        unwell = [name for name, state in states.items() if state not in ("healthy", "ended 0")]
        logs = [f"--- {name}\n{self._log(name)}" for name in unwell]
        return "\n".join([json.dumps(states, indent=1), *logs])

    def _log(self, container: str) -> str:
        done = subprocess.run(
            ["docker", "logs", "--tail", "40", container],
            env=self.engine.env,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr


def _state(state: dict[str, Any]) -> str:
    if state["Status"] == "exited":
        return f"ended {state['ExitCode']}"
    return str(state.get("Health", {}).get("Status", state["Status"]))


def until(what: str, condition: Callable[[], Any], seconds: float, why: Callable[[], str] = str) -> Any:
    """Asks until `condition()` is true and returns it; fails with `what` and `why()` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}\n{why()}"
        time.sleep(1)
    return found


@contextmanager
def running(engine: Engine, files: list[str], folder: Path) -> Iterator[Containers]:
    """Up and healthy inside the block; nothing of it is left afterwards."""
    for name in ("docker-compose.yaml", "docker-compose.gpu.yaml"):
        shutil.copy(REPOSITORY / name, folder)
    shutil.copy(Path(__file__).with_name("stand-ins.yaml"), folder)
    made = run_theta(clean_environment(), "compose", "init", "--folder", str(folder))
    assert made.returncode == 0, made.stderr
    _choose_ports(folder / ENV_FILE)
    env = clean_environment() | seen_from_here(read(folder)) | {"THETA_HOME": str(folder / "home")}
    found = Containers(engine, folder, files, env)
    try:
        found.up()
        yield found
    finally:
        found.compose("down", "--volumes", "--timeout", "5", check=False)


def _choose_ports(path: Path) -> None:
    """Of the machine's that nobody listens on."""
    text = path.read_text()
    for (name, usual), free in zip(PORTS.items(), free_ports(len(PORTS)), strict=True):
        text = text.replace(f"{name}={usual}", f"{name}={free}")
    path.write_text(text)
