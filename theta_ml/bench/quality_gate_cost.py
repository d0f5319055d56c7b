"""What it takes to judge a month of a million messages: `theta stage validate`, `profile` and `drift` at once, as a run
starts them, on a real Postgres. The months before were seen by earlier runs, and their digests are kept. And what the
rules that set conversations aside cost the snapshot, for the same month.

The messages are real conversations said again and again, each time a little otherwise.
"""

import json
import random
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theta_ml.bench import row
from theta_ml.bench.landing import _database, _work, own_folder, server
from theta_ml.bench.quality_gate_data import CORPORA, Conversation, corpus
from theta_ml.bench.stack import clean_environment
from theta_ml.month import Month

if TYPE_CHECKING:
    import psutil

MESSAGES = 1_000_000
MONTH, BEFORE = "2026-04", ("2026-01", "2026-02", "2026-03")
CHECKS = ("validate", "profile", "drift")
SECONDS, GIGABYTES = 60.0, 1.5
_EVERY = 0.05
"""Seconds between two looks at the memory."""


@dataclass(frozen=True)
class Cost:
    """Of some processes that ran at once."""

    seconds: float
    each: dict[str, float]
    """Seconds of each."""
    processor_seconds: float
    """Of all of them, Postgres' own left out: what tells a slow machine from a busy one."""
    peak_bytes: int
    """The most that all of them, their children and Postgres' processes held at one moment (proportional set size:
    a page that several share, as Postgres' buffers, is counted once)."""
    rules_seconds: float
    """To find the month's conversations that break a rule, on its own."""


def cost_rows(messages: int = MESSAGES) -> list[dict[str, Any]]:
    with own_folder() as folder, server(folder) as url:
        database = _database(url, "theta")
        for month in (*BEFORE, MONTH):
            _say(f"landing {messages:,} messages of {month}")
            path = folder / f"{month}.jsonl"
            _write(path, month, messages)
            _work("import", path, database)
            path.unlink()
        _say("applying the row rules")
        rules_seconds = _rules(database)
        environment = clean_environment() | {"THETA_HOME": str(folder / "home"), "THETA_DATABASE_URL": database}
        _say("freezing and digesting the months before")
        snapshot = _stage(environment, "snapshot")
        _digest(folder / "home", snapshot)
        _say(f"judging {MONTH}")
        cost = _run(environment, snapshot, folder / "pg", rules_seconds)
        shutil.rmtree(folder / "home")
    return _rows(cost, messages)


def _rows(cost: Cost, messages: int) -> list[dict[str, Any]]:
    peak = cost.peak_bytes / 1e9
    name = f"validation, profile and drift of {messages:,} messages (digests of the months before at hand)"
    return [
        row(f"{name}, together", cost.seconds, "s", target=SECONDS, ok=cost.seconds <= SECONDS),
        *(row(f"{name}: {stage}", seconds, "s") for stage, seconds in cost.each.items()),
        row(f"{name}: processor time", cost.processor_seconds, "s"),
        row(f"{name}, peak memory with Postgres", peak, "GB", target=GIGABYTES, ok=peak <= GIGABYTES),
        row(f"row rules of {messages:,} messages, in the snapshot", cost.rules_seconds, "s"),
    ]


def _write(path: Path, month: str, messages: int) -> None:
    with path.open("w") as file:
        for conversation in _repeated(month, messages):
            file.write(json.dumps(conversation) + "\n")


def _repeated(month: str, messages: int) -> Iterator[Conversation]:
    """So many messages, or a few more, spread over the month."""
    dice, start = random.Random(month), Month.parse(month).start  # noqa: S311
    rows = [each for name in CORPORA for each in corpus(name)]
    seconds, written, place = (Month.parse(month).end - start).total_seconds(), 0, 0
    while written < messages:
        model = rows[dice.randrange(len(rows))]
        said = start + timedelta(seconds=seconds * written / messages)
        yield {
            "id": f"{month}-{place}",
            "source": model["source"],
            "language": model.get("language"),
            "topics": model.get("topics") or [],
            "rating": model.get("rating"),
            "user_id": f"user {dice.randrange(20_000)}",
            "created_at": said.isoformat(),
            "messages": [{"role": m["role"], "content": _otherwise(m["content"], dice)} for m in model["messages"]],
        }
        written, place = written + len(model["messages"]), place + 1


def _otherwise(text: str, dice: random.Random) -> str:
    """A word less, in half of all cases."""
    words = text.split(" ")
    if len(words) > 3 and dice.random() < 0.5:
        del words[dice.randrange(1, len(words) - 1)]
    return " ".join(words)


def _rules(database: str) -> float:
    """Seconds."""
    from theta_ml.landing.database import connect_url
    from theta_ml.landing.quarantine import faults_of, rules
    from theta_ml.landing.shards import WHOLE

    month = Month.parse(MONTH)
    with connect_url(database) as connection:
        started = time.perf_counter()
        span = {"start": month.start, "end": month.end, "watermark": datetime.now(UTC)} | WHOLE.arguments
        faults_of(connection, rules(), span)
        return time.perf_counter() - started


def _digest(home: Path, snapshot: str) -> None:
    """As the runs of the months before did."""
    from theta_ml.events import Events
    from theta_ml.landing.parquet import file_name
    from theta_ml.quality.digest import find_or_digest
    from theta_ml.settings import Settings
    from theta_ml.stage import Work
    from theta_ml.store import Store

    settings = Settings(home=home)
    store = Store(settings.artifacts, home / "cache")
    artifact = store.open(snapshot)
    with Events("digest") as events:
        work = Work("before", "", home, settings, store, events)
        for month in BEFORE:
            find_or_digest(work, artifact.path, month, artifact.document["value"]["files"][file_name(month)])


def _stage(environment: dict[str, str], name: str) -> str:
    """Its artifact's URI."""
    done = subprocess.run(_command(name), env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.split()[-1]


def _command(name: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "theta_ml", "stage", name, "--month", MONTH, "--run", "bench", *more]


def _run(environment: dict[str, str], snapshot: str, postgres: Path, rules_seconds: float) -> Cost:
    """The three stages at once; `postgres` is the server's folder. Raises CalledProcessError where one fails."""
    started, worked = time.perf_counter(), _worked()
    children = {
        name: subprocess.Popen(_command(name, "--input", snapshot), env=environment, stdout=subprocess.DEVNULL)
        for name in CHECKS
    }
    stop, peaks = threading.Event(), [0]
    pids = [int((postgres / "postmaster.pid").read_text().split()[0]), *(child.pid for child in children.values())]
    watch = threading.Thread(target=_watch, args=(pids, stop, peaks))
    watch.start()
    each: dict[str, float] = {}
    waits = [
        threading.Thread(target=lambda n=name, c=child: each.update({n: _waited(c, started)}))
        for name, child in children.items()
    ]
    for wait in waits:
        wait.start()
    for wait in waits:
        wait.join()
    stop.set()
    watch.join()
    for child in children.values():
        if child.returncode:
            raise subprocess.CalledProcessError(child.returncode, child.args)
    seconds = {name: each[name] for name in CHECKS}
    return Cost(max(each.values()), seconds, _worked() - worked, peaks[0], rules_seconds)


def _worked() -> float:
    """Processor seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _waited(child: "subprocess.Popen[bytes]", started: float) -> float:
    child.wait()
    return time.perf_counter() - started


def _watch(pids: list[int], stop: threading.Event, peaks: list[int]) -> None:
    import psutil

    while not stop.wait(_EVERY):
        held = 0
        for pid in pids:
            with suppress(psutil.Error):  # it has ended
                process = psutil.Process(pid)
                held += sum(map(_held, (process, *process.children(recursive=True))))
        peaks[0] = max(peaks[0], held)


def _held(process: "psutil.Process") -> int:
    """Bytes; none of one that has ended."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        return int(process.memory_full_info().pss)
    return 0


def _say(text: str) -> None:
    print(f"{text} …", file=sys.stderr, flush=True)  # noqa: T201
