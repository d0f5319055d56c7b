"""Code that a model wrote, run where it can do no harm; where that cannot be had, it is not run.

How it is shut in stands in `jail`: Linux namespaces, an empty root, no privileges, limits. There is no second way.
"""

import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from theta_ml.stage import StageFailed

SECONDS = 5
"""For a program, in all; the benchmark's own limit is 3 s a program."""
_GRACE = 10
_NOT_SHUT_IN = 70
_JAIL = Path(__file__).with_name("jail.py")

PROBE = """
import os, socket
assert os.getpid() == 1 and os.listdir(".") == []
for path in ("/etc/passwd", "/proc/self/environ", "/home", "/tmp", "/dev", "/bin/sh", "/usr/bin"):
    assert not os.path.exists(path), path
for attempt in (os.fork, lambda: socket.create_connection(("127.0.0.1", 9), 1), lambda: open("/cell/../x", "w")):
    try:
        attempt()
    except OSError:
        continue
    raise AssertionError(attempt)
"""
"""Ends well only where it is shut in."""


class NotShutIn(StageFailed):
    """The program was not run; the message says what the kernel refused."""


def passes(program: str, seconds: int = SECONDS) -> bool:
    """Whether `program` (Python) ends by itself, without an exception, in time. Raises NotShutIn."""
    with tempfile.TemporaryDirectory(prefix="theta-sandbox-") as root:
        command = [sys.executable, "-I", "-S", str(_JAIL), root, str(seconds)]
        try:
            ended = subprocess.run(
                command, input=program.encode(), env={}, cwd=root, capture_output=True, timeout=seconds + _GRACE
            )
        except subprocess.TimeoutExpired:  # the jailer was killed, and the kernel killed its prisoner
            return False
    if ended.returncode not in (0, 1):
        raise NotShutIn(
            f"no sandbox for generated code: {ended.stderr.decode(errors='replace').strip() or ended.returncode}; it "
            "needs Linux namespaces: run as root with CAP_SYS_ADMIN, or where users may make namespaces of users"
        )
    return ended.returncode == 0


@cache
def why_no_sandbox() -> str:
    """Why generated code cannot be run here; empty where it can, which a program that tries to get out has shown."""
    if sys.platform != "linux":
        return f"no sandbox for generated code on {sys.platform}: it is made of Linux namespaces"
    try:
        held = passes(PROBE)
    except NotShutIn as error:
        return str(error)
    return "" if held else "no sandbox for generated code: a program that tried to get out of it did"
