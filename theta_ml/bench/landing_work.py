"""What a process of `theta_ml.bench.landing` does: `python -m theta_ml.bench.landing_work WHO PATH URL`."""

import gzip
import json
import sys
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import Any

import psycopg

_DAY = date(2026, 1, 5)
_PEER_BATCH = 1000


def import_(path: Path, url: str) -> int:
    """Messages landed."""
    from theta_ml.landing.database import connect_url
    from theta_ml.landing.importing import Importer

    with connect_url(url) as connection:
        return Importer(connection, day=_DAY).run(path).counts.messages


def export(path: Path, url: str, raw: bool) -> int:
    """Messages written."""
    from theta_ml.landing.database import connect_url
    from theta_ml.landing.export import Span, export_pieces
    from theta_ml.landing.whole_file import whole_file

    messages = 0
    with connect_url(url) as connection, whole_file(str(path)) as file:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        for piece in export_pieces(connection, Span.of(None, None), raw):
            file.write(piece.lines)
            messages += piece.messages
    return messages


def executemany(path: Path, url: str) -> int:
    """What one would write first: parse with json, insert in batches, let the database find the duplicates."""
    from theta_ml.landing.months import make_months

    messages = 0
    with gzip.open(path, "rt") as file, psycopg.connect(url) as connection, connection.cursor() as cursor:
        make_months(connection, [f"{_DAY:%Y-%m}"])
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
        (
            each["id"],
            _DAY,
            position,
            message["role"],
            message["content"],
            message.get("rating"),
            message.get("created_at"),
        )
        for each in batch
        for position, message in enumerate(each["messages"])
    ]
    cursor.executemany(
        "INSERT INTO messages (conversation_id, occurred_at, position, role, content, rating, created_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        rows,
    )
    connection.commit()
    return len(rows)


def peak_bytes() -> int:
    """VmHWM where there is /proc: it starts anew with each program, `ru_maxrss` may be the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


WORK = {
    "import": import_,
    "executemany": executemany,
    "raw": lambda path, url: export(path, url, raw=True),
    "redacted": lambda path, url: export(path, url, raw=False),
}


def _main(who: str, path: Path, url: str) -> None:
    _import_libraries(who)
    started = perf_counter()
    amount = WORK[who](path, url)
    print(json.dumps([amount, perf_counter() - started, peak_bytes()]))  # noqa: T201


def _import_libraries(who: str) -> None:
    """Loading programs is no part of the work."""
    if who in ("raw", "redacted"):
        import theta_ml.landing.export
    elif who == "import":
        import theta_ml.landing.importing  # noqa: F401


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
