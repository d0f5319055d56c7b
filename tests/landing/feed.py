"""Lines and files of conversations for tests."""

import gzip
import json
from pathlib import Path
from typing import Any

import psycopg

from theta_ml.landing.database import connect_url
from theta_ml.landing.importing import FileImport, Importer


def record(number: int, **changes: Any) -> dict[str, Any]:
    """A good conversation of two messages in February 2026; `changes` replace fields, None takes one away."""
    good: dict[str, Any] = {
        "id": f"c{number:05d}",
        "source": "app",
        "language": "en",
        "created_at": f"2026-02-{number % 28 + 1:02d}T12:00:00Z",
        "messages": [
            {"role": "user", "content": f"Hello {number}"},
            {"role": "assistant", "content": "Hi!", "rating": 4},
        ],
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def write(path: Path, lines: list[Any]) -> Path:
    """`lines` as they are where they are bytes, as JSON otherwise; gzip where the name ends in .gz."""
    raw = b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def land(url: str, path: Path, **options: Any) -> FileImport:
    with connect_url(url) as connection:
        return Importer(connection, **options).run(path)


def count(url: str, table: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            psycopg.sql.SQL("SELECT count(*) FROM {}").format(psycopg.sql.Identifier(table))
        ).fetchone()
    assert row is not None
    return int(row[0])
