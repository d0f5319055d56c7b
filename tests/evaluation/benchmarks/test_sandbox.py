"""What a model wrote can neither look nor reach out, nor stay."""

import gzip
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import REPOSITORY
from theta_ml.evaluation.benchmarks import jail
from theta_ml.evaluation.benchmarks.sandbox import PROBE, passes, why_no_sandbox
from theta_ml.evaluation.benchmarks.tasks import program

pytestmark = pytest.mark.skipif(bool(why_no_sandbox()), reason=why_no_sandbox())

FAILS = """
def fails(attempt, *arguments):
    try:
        attempt(*arguments)
    except (OSError, MemoryError, RuntimeError):
        return
    raise AssertionError("it got out")
"""


def contained(attack: str) -> bool:
    """Whether each of the attack's attempts failed."""
    return passes(FAILS + textwrap.dedent(attack))


def unconfined(attack: str) -> bool:
    """The same, without the sandbox: shows that the attack can succeed."""
    freely = [sys.executable, "-I", "-c", FAILS + textwrap.dedent(attack)]
    return subprocess.run(freely, capture_output=True).returncode == 0


def test_honest_programs_pass_and_wrong_ones_do_not() -> None:
    assert passes("import math, hashlib, re, typing, collections, itertools, random\nassert math.gcd(4, 6) == 2")
    assert passes("print('to nobody')\nimport sys; sys.stdin.read()")
    assert not passes("assert 1 == 2")
    assert not passes("def f(:")


def test_the_benchmark_s_own_solutions_pass() -> None:
    shared = REPOSITORY.parent / "shared/data/benchmarks/humaneval_first40.jsonl.gz"
    if not shared.exists():
        pytest.skip(f"no {shared}")
    with gzip.open(shared, "rt") as lines:
        rows = [json.loads(line) for line in lines][::3]
    assert [row["task_id"] for row in rows if not passes(program(row, row["canonical_solution"]))] == []
    assert not any(passes(program(row, "    return None\n")) for row in rows[:5])


@pytest.mark.parametrize("leaving", ["import os; os._exit(0)", "raise SystemExit(0)", "import sys; sys.exit()"])
def test_who_leaves_before_the_end_has_not_passed(leaving: str) -> None:
    assert not passes(leaving)


def test_who_says_that_it_passed_is_not_believed() -> None:
    assert not passes(
        "import os\nfor fd in range(64):\n try: os.write(fd, b'passed')\n except OSError: pass\nos._exit(0)"
    )


def test_it_cannot_read_or_write_outside(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of ours")
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    attack = f"""
        fails(open, {str(secret)!r})
        fails(open, "/proc/1/root{secret}")
        fails(open, {str(tmp_path / "left behind")!r}, "w")
        fails(open, "/etc/passwd")
        """
    assert contained(attack)
    assert not (tmp_path / "left behind").exists()
    assert not unconfined(attack)


def test_it_cannot_climb_out_of_its_root() -> None:
    assert contained("""
        import ctypes, os
        fails(os.chroot, "/cell")
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.unshare(0x10000000) == -1  # no namespace of users, in which it would be root
        assert libc.mount(b"none", b"/cell", b"tmpfs", 0, None) == -1
        os.chdir("/")
        for _ in range(20):
            os.chdir("..")
        assert sorted(os.listdir(".")) == sorted(os.listdir("/")) and "etc" not in os.listdir("/")
        """)


def test_it_has_no_privileges_and_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THETA_DATABASE_URL", "postgresql://secret")
    assert contained("""
        import os, signal, socket
        assert set(os.environ) <= {"LC_CTYPE"} and os.getpid() == 1 and os.getppid() == 0
        if os.getuid() == 65534:
            fails(os.setuid, 0)
        else:
            fails(os.setgroups, [])
        fails(os.kill, 2, signal.SIGKILL)
        fails(socket.sethostname, "x")
        assert os.listdir(".") == []
        """)


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[tuple[int, str]]:
    """A port and a socket's path at which somebody answers."""
    with socket.create_server(("127.0.0.1", 0)) as there, socket.socket(socket.AF_UNIX) as here:
        here.bind(str(tmp_path / "socket"))
        here.listen()
        yield there.getsockname()[1], str(tmp_path / "socket")


def test_it_cannot_reach_anybody(listening: tuple[int, str]) -> None:
    port, path = listening
    attack = f"""
        import socket
        fails(socket.create_connection, ("127.0.0.1", {port}), 2)
        fails(socket.socket(socket.AF_UNIX).connect, {path!r})
        """
    assert contained(attack)
    assert contained("import socket\nfails(socket.create_connection, ('192.0.2.1', 80), 2)")
    assert not unconfined(attack)


def test_it_cannot_multiply() -> None:
    assert contained("""
        import os, subprocess, threading
        fails(os.fork)
        fails(subprocess.run, ["/bin/sh", "-c", "true"])
        fails(threading.Thread(target=print).start)
        """)


def test_it_cannot_take_more_than_its_share() -> None:
    assert contained("""
        fails(bytearray, 4 << 30)
        fails(lambda: open("large", "wb").write(bytes(2 << 20)))
        def fill():
            for number in range(100):
                with open(str(number), "wb") as file:
                    file.write(bytes(1 << 19))
        fails(fill)
        fails(lambda: [open("/cell/large", "rb") for _ in range(100)].clear())
        """)


@pytest.mark.parametrize(
    "staying",
    [
        "while True: pass",
        "import time; time.sleep(600)",
        "import signal, time\nfor n in range(1, 65):\n if n not in (9, 19, 32, 33): signal.signal(n, signal.SIG_IGN)\n"
        "time.sleep(600)",
        "import os\nwhile True:\n try: os.fork()\n except OSError: pass",
    ],
)
def test_it_cannot_outlive_its_time(staying: str) -> None:
    before = psutil.Process().children(recursive=True)  # servers of other tests
    began = time.monotonic()
    assert not passes(staying, seconds=1)
    assert time.monotonic() - began < 8
    assert psutil.Process().children(recursive=True) == before


def test_it_ends_with_whoever_started_it() -> None:
    started = psutil.Popen(
        [sys.executable, "-c", "from theta_ml.evaluation.benchmarks.sandbox import passes\n"
         "passes('while True: pass', 60)"], stdin=subprocess.DEVNULL,
    )  # fmt: skip
    jailer, prisoner = _at_work(started)
    started.kill()
    started.wait()
    _, alive = psutil.wait_procs([jailer, prisoner], timeout=10)
    for left in alive:
        left.kill()
    assert alive == []


def _at_work(started: psutil.Process) -> list[psutil.Process]:
    """Jailer and prisoner, once the program runs: it is seen by the time it takes, for it can tell nobody."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = started.children(recursive=True)
        if len(found) == 2 and found[1].cpu_times().user > 0.5:
            return found
        time.sleep(0.05)
    raise AssertionError("the program did not begin")


def test_where_it_cannot_be_shut_in_it_is_not_run(tmp_path: Path) -> None:
    if not shutil.which("setpriv") or os.geteuid():
        pytest.skip("needs root, and setpriv to give up its privilege")
    ran = f"open({str(tmp_path / 'ran')!r}, 'w')"
    said = subprocess.run(
        ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all", sys.executable, "-c",
         "from theta_ml.evaluation.benchmarks.sandbox import passes, why_no_sandbox\n"
         f"print(why_no_sandbox())\npasses({ran!r})"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert "no sandbox for generated code: [Errno 1] unshare: Operation not permitted" in said.stdout
    assert "NotShutIn" in said.stderr
    assert not (tmp_path / "ran").exists()


def test_who_is_not_root_is_shut_in_as_well() -> None:
    python = Path("/usr/bin/python3")
    if os.geteuid() or not python.exists() or not shutil.which("setpriv"):
        pytest.skip("the other tests say so where we are not root; here it takes a Python that others may read")
    become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]
    with tempfile.TemporaryDirectory() as folder:  # all above it may be entered by others, unlike above tmp_path
        Path(folder).chmod(0o777)
        copied = shutil.copy(jail.__file__, Path(folder) / "jail.py")
        ended = subprocess.run(
            [*become, python, "-I", "-S", copied, folder, "5"], input=PROBE, text=True, env={}, capture_output=True
        )
    if ended.returncode == 70:
        pytest.skip(f"users may make no namespaces here: {ended.stderr}")
    assert (ended.returncode, ended.stderr) == (0, "")
