"""A stage as a child process of an Airflow task.

The child stays in the task's process group (a group of its own would outlive a killed operator), its stdin is a pipe
whose end tells it that the operator is gone, and it says what happens on a pipe of its own.
"""

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import IO, Any, Self

from theta_ml.events import EVENTS_FD

# Airflow's own environment holds its signing secrets; a stage gets what a stage needs.
PASSED_ON = {"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "VIRTUAL_ENV", "PYTHONPATH", "LD_LIBRARY_PATH"}
PASSED_ON_PREFIXES = (
    "THETA_", "MLFLOW_", "CUDA_", "NVIDIA_", "NCCL_", "TORCH_", "TORCHINDUCTOR_", "OMP_", "HF_", "AWS_",
    "GX_", "DO_NOT_TRACK",
)  # fmt: skip
KEPT_BACK = {"THETA_CELERY_BROKER", "THETA_AIRFLOW_PASSWORD"}
"""Whoever has the broker makes workers run what they like; a stage speaks to neither it nor Airflow."""
GRACE_SECONDS = 5
COMMAND = (sys.executable, "-m", "theta_ml", "stage")


def stage_environment(environment: dict[str, str]) -> dict[str, str]:
    """The part of `environment` that a stage may see."""
    return {
        name: value
        for name, value in environment.items()
        if name not in KEPT_BACK and (name in PASSED_ON or name.startswith(PASSED_ON_PREFIXES))
    }  # fmt: skip


class StageProcess:
    """Runs `theta stage …`; iterate over `events()`, then read `returncode`."""

    def __init__(self, arguments: list[str]) -> None:
        events, child_end = os.pipe()
        environment = stage_environment(dict(os.environ)) | {EVENTS_FD: str(child_end), "PYTHONUNBUFFERED": "1"}
        self._child = subprocess.Popen(
            [*COMMAND, *arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[child_end],
        )
        os.close(child_end)
        self._events = os.fdopen(events, "rb")

    def run(self, hear: Callable[[dict[str, Any]], None]) -> int:
        """Until it ends; `hear` gets what it says. Its exit code, negative where a signal ended it."""
        with self:
            for event in self.events():
                hear(event)
            return self.returncode

    @property
    def returncode(self) -> int:
        """Of the finished child; negative where a signal ended it."""
        return self._child.wait()

    def events(self) -> Iterator[dict[str, Any]]:
        """What the child says until it ends; plain output comes as `{"event": "output", "message": line}`."""
        assert self._child.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ, _output_event)
            selector.register(self._events, selectors.EVENT_READ, json.loads)
            lines = {self._child.stdout: b"", self._events: b""}
            while selector.get_map():
                for ready, _ in selector.select():
                    yield from _read(ready, lines, selector)

    def stop(self) -> None:
        """SIGTERM, time for a checkpoint, then SIGKILL."""
        self._child.terminate()
        try:
            self._child.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child.poll() is None:
            self.stop()
        for pipe in (self._child.stdin, self._child.stdout, self._events):
            if pipe:
                pipe.close()


def _output_event(line: bytes) -> dict[str, Any]:
    return {"event": "output", "message": line.decode(errors="replace")}


def _read(
    ready: selectors.SelectorKey, lines: dict[IO[bytes], bytes], selector: selectors.BaseSelector
) -> Iterator[dict[str, Any]]:
    """Whole lines of one pipe, each as an event; the rest waits in `lines`."""
    pipe: Any = ready.fileobj
    chunk = os.read(pipe.fileno(), 65536)
    *whole, lines[pipe] = (lines[pipe] + chunk).split(b"\n")
    if not chunk:
        selector.unregister(pipe)
        whole = [lines[pipe]]
    yield from (ready.data(line) for line in whole if line.strip())
