"""What the stages that read the data take as it grows: seconds, and the most memory that they hold with Postgres."""

import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from theta_ml.bench.corpus_work import _artifact
from theta_ml.bench.landing import _database, _work, own_folder, server
from theta_ml.bench.quality_gate_cost import _say, _watch
from theta_ml.bench.scale_data import MONTHS, conversations, write
from theta_ml.bench.stack import clean_environment
from theta_ml.store import Store

START = 10_000
"""Messages at which a stage's time is its start and little more; with a tenth of them drift has too few to begin."""
AMOUNTS = (100_000, 300_000, 1_000_000, 2_000_000, 5_000_000)
STAGES = ("snapshot", "validate", "drift", "prepare")


@dataclass(frozen=True)
class Measured:
    """One process of a stage."""

    seconds: float
    peak_bytes: int
    """The most that it, its children and Postgres held at one moment (proportional set size)."""


@dataclass
class Amount:
    """All that was measured with so many messages landed."""

    messages: int
    conversations: int
    import_rate: float
    """Messages a second while those were landed that the amount before did not have."""
    stages: dict[str, Measured] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    """On disk: of the database, of the snapshot, of what `prepare` made."""


def measure_stages() -> list[Amount]:
    """The first of START messages, then each of AMOUNTS, in one database that grows."""
    with own_folder() as folder, server(folder) as url:
        database = _database(url, "theta")
        stream, found, landed = conversations(), list[Amount](), [0, 0]
        for messages in (START, *AMOUNTS):
            _say(f"landing {messages:,} messages")
            path = folder / "more.jsonl"
            more = write(path, stream, messages - landed[1])
            landed = [before + new for before, new in zip(landed, more, strict=True)]
            rate = _landed(path, database)
            found.append(Amount(landed[1], landed[0], rate))
            _run(found[-1], folder, database)
    return found


def _landed(path: Path, database: str) -> float:
    """Messages a second."""
    measured = _work("import", path, database)
    path.unlink()
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("ANALYZE")  # as autovacuum does a minute later
    return measured.amount / measured.seconds


def _run(amount: Amount, folder: Path, database: str) -> None:
    """Each stage once, nothing of earlier runs at hand."""
    home = folder / "home"
    environment = clean_environment() | {"THETA_HOME": str(home), "THETA_DATABASE_URL": database}
    store = Store(str(home / "artifacts"), home / "cache")
    snapshot = ""
    for name in STAGES:
        inputs = [snapshot] if snapshot else []
        if name == "prepare":
            # What validation and drift say of such months is beside the point here.
            inputs += [_artifact(store, stage, {"passed": True, "outcome": ""}) for stage in ("validate", "drift")]
        _say(f"{name} of {amount.messages:,} messages")
        amount.stages[name], uri = measured(command(name, inputs, str(amount.messages)), environment, folder / "pg")
        snapshot = snapshot or uri
    amount.bytes = _bytes(home, database)
    shutil.rmtree(home)


def command(stage: str, inputs: list[str], run: str, *more: str) -> list[str]:
    """`theta stage …` of the last month."""
    given = [part for uri in inputs for part in ("--input", uri)]
    return [sys.executable, "-m", "theta_ml", "stage", stage, "--month", MONTHS[-1], "--run", run, *given, *more]


def measured(words: list[str], environment: dict[str, str], postgres: Path) -> tuple[Measured, str]:
    """And the URI it printed. Raises CalledProcessError where it fails."""
    started = time.perf_counter()
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as child:
        stop, peaks = threading.Event(), [0]
        pids = [int((postgres / "postmaster.pid").read_text().split()[0]), child.pid]
        watch = threading.Thread(target=_watch, args=(pids, stop, peaks))
        watch.start()
        output, _ = child.communicate()
        seconds = time.perf_counter() - started
        stop.set()
        watch.join()
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, words)
    return Measured(seconds, peaks[0]), output.split()[-1]


def _bytes(home: Path, database: str) -> dict[str, int]:
    with psycopg.connect(database) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert row
    folders = {"the snapshot": ("snapshot",), "the packed corpus": ("pack", "prepare")}
    sizes = {name: sum(map(_size, (home / "artifacts" / each for each in own))) for name, own in folders.items()}
    return {"the database": int(row[0])} | sizes


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def kept(amounts: list[Amount], name: str) -> tuple[list[float], list[float], list[float]]:
    """Of a stage, without the start's: messages, seconds, and bytes at the peak."""
    rows = [(each.messages, each.stages[name]) for each in amounts[1:]]
    return [float(m) for m, _ in rows], [s.seconds for _, s in rows], [float(s.peak_bytes) for _, s in rows]
