"""A Docker Engine: the one that runs here, or, where it is asked for, one of the test's own."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

OWN = "THETA_TEST_DOCKERD"
"""Set, by `make containers`, where the test may start an engine of its own. It wants root."""


@dataclass(frozen=True)
class Engine:
    """Where it listens, as the environment of `docker` and `docker-compose`."""

    env: dict[str, str]

    def docker(self, *arguments: str, timeout: float = 120, check: bool = True) -> str:
        """What `docker …` prints."""
        done = subprocess.run(
            ["docker", *arguments], env=self.env, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert not check or done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stdout[-4000:]}{done.stderr}"
        return done.stdout

    def has_image(self, name: str) -> bool:
        return bool(self.docker("images", "--quiet", name).strip())


def missing() -> str | None:
    """Why containers cannot be tried here; None where they can."""
    for program in ("docker", "docker-compose"):
        if shutil.which(program) is None:
            return f"no {program} here: install Docker Engine and Docker Compose"
    if answers(dict(os.environ)):
        return None
    if OWN not in os.environ:
        return "no Docker Engine answers; `make containers`, as root, starts one for this"
    if os.geteuid() or shutil.which("dockerd") is None:
        return "no Docker Engine answers, and starting one wants root and dockerd"
    return None


def answers(env: dict[str, str]) -> bool:
    return subprocess.run(["docker", "info"], env=env, capture_output=True, check=False, timeout=60).returncode == 0


@contextmanager
def engine() -> Iterator[Engine]:
    """The engine that answers, else one of our own, which is ended and leaves nothing."""
    here = dict(os.environ)
    if answers(here):
        yield Engine(here)
        return
    folder = Path(tempfile.mkdtemp(prefix="theta-docker-"))
    env = here | {"DOCKER_HOST": f"unix://{folder}/docker.sock"}
    with (folder / "dockerd.log").open("wb") as log, _started(folder, log.fileno(), env):
        yield Engine(env)
    # dockerd leaves this one mounted.
    subprocess.run(["umount", str(folder / "exec/netns/default")], capture_output=True, check=False)
    shutil.rmtree(folder)


@contextmanager
def _started(folder: Path, log: int, env: dict[str, str]) -> Iterator[None]:
    command = ["dockerd", f"--host={env['DOCKER_HOST']}", f"--data-root={folder}/data", f"--exec-root={folder}/exec"]
    # No network of its own: builds use the machine's, containers that of docker-compose.
    child = subprocess.Popen([*command, f"--pidfile={folder}/pid", "--bridge=none"], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while not answers(env):
            said = (folder / "dockerd.log").read_text(errors="replace")[-3000:]
            assert child.poll() is None and time.monotonic() < deadline, f"dockerd did not come up:\n{said}"
            time.sleep(0.5)
        yield
    finally:
        child.terminate()
        child.wait(60)
