"""A file of conversations into the landing zone: read, checked and landed a chunk at a time.

Two chunks land in threads, through connections of their own, while the next one is read: Postgres takes longer over its
indexes and references than we over our checks.
"""

import os
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, NamedTuple, Self

import psycopg

from theta_ml.landing.chunk import Chunk, Counts, Landed, Reject, land
from theta_ml.landing.conversation import Defaults, Rejected, parse, rough_ids
from theta_ml.landing.lines import KEPT_BYTES, MAX_LINE_BYTES, Line, LineFile, UnreadableFile

Progress = Callable[[int, int, int], None]
"""Called with bytes read, bytes in all and messages landed."""
_AT_ONCE = 2
"""Chunks that land at a time: a process of Postgres keeps one core busy."""
_TOO_LONG = f"line over {MAX_LINE_BYTES // 1_000_000} MB"


class _Landing(NamedTuple):
    """A chunk under way."""

    chunk: Chunk
    connection: psycopg.Connection
    future: Future[Landed]


@dataclass
class FileImport:
    """What became of one file."""

    file: str
    batch_id: int
    counts: Counts = field(default_factory=Counts)
    reasons: Counter[str] = field(default_factory=Counter)
    """Why lines were rejected, and how many."""
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        rate = round(self.counts.messages / self.seconds) if self.seconds else 0
        return {
            "file": self.file,
            "batch_id": self.batch_id,
            **vars(self.counts),
            "reasons": dict(self.reasons.most_common()),
            "seconds": round(self.seconds, 3),
            "messages_per_second": rate,
        }


class Importer:
    """Lands files through a connection, which it puts into autocommit mode."""

    def __init__(self, connection: psycopg.Connection, source: str | None = None, day: date | None = None) -> None:
        """`source` overrides the lines' own; `day` dates the conversations that have no date.

        A large file takes a second connection to the same place.
        """
        connection.autocommit = True
        self.connection = connection
        self.source = source
        self.occurred_at = datetime.combine(day, time.min, UTC) if day else None
        self.done: list[FileImport] = []
        """The files so far; the last one may be half done when an import was broken off."""

    def run(self, path: Path, progress: Progress | None = None) -> FileImport:
        """Raises UnreadableFile; what was complete before has landed."""
        with LineFile(path) as lines:
            file = os.fsencode(path.absolute()).decode(errors="replace")
            result = FileImport(file, self._open_batch(file))
            self.done.append(result)
            started = monotonic()
            try:
                self._land(lines, result, progress or (lambda done, total, messages: None))
            finally:
                result.seconds = monotonic() - started
            self.connection.execute(
                "UPDATE import_batches SET finished_at = clock_timestamp() WHERE batch_id = %s", [result.batch_id]
            )
        return result

    def _land(self, lines: LineFile, result: FileImport, progress: Progress) -> None:
        defaults = Defaults(self.source, lines.path.name.split(".")[0] or "import", self.occurred_at)
        chunk = Chunk()
        with _Lander(self.connection, result) as lander:
            try:
                for line in lines:
                    _read(line, defaults, chunk)
                    if chunk.full:
                        full, chunk = chunk, Chunk()
                        lander.land(full)
                        progress(lines.position, lines.size, result.counts.messages)
            except UnreadableFile:
                lander.land(chunk)
                raise
            lander.land(chunk)
        progress(lines.size, lines.size, result.counts.messages)

    def _open_batch(self, file: str) -> int:
        row = self.connection.execute(
            "INSERT INTO import_batches (file, source) VALUES (%s, %s) RETURNING batch_id", [file, self.source]
        ).fetchone()
        assert row is not None
        return int(row[0])


class _Lander:
    """Lands chunks in the background, two at a time; at the end of its block, however that comes, all have landed."""

    def __init__(self, connection: psycopg.Connection, result: FileImport) -> None:
        self._first, self._result = connection, result
        self._free = [connection]
        self._pool = ThreadPoolExecutor(_AT_ONCE, "landing")
        self._landing: deque[_Landing] = deque()
        self._connections = ExitStack()

    def land(self, chunk: Chunk) -> None:
        """Returns when it is under way. Raises the faults of the chunks before."""
        while len(self._landing) >= _AT_ONCE:
            self._settle()
        for under_way in self._landing:
            chunk.leave(under_way.chunk.landings.keys())
        connection = self._free.pop() if self._free else self._another()
        future = self._pool.submit(land, connection, chunk, self._result.batch_id, self._result.file)
        self._landing.append(_Landing(chunk, connection, future))

    def _settle(self) -> None:
        """Waits for the oldest, and counts it."""
        wait([self._landing[0].future])  # interrupted here, it is still to be settled
        done = self._landing.popleft()
        self._free.append(done.connection)
        landed = done.future.result()
        self._result.counts.add(landed.counts)
        self._result.reasons.update(landed.reasons)

    def _another(self) -> psycopg.Connection:
        place, password = self._first.info.dsn, self._first.info.password or None
        return self._connections.enter_context(psycopg.connect(place, password=password, autocommit=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._connections, self._pool, ExitStack() as unsettled:
            for _ in self._landing:
                unsettled.callback(self._settle)


def _read(line: Line, defaults: Defaults, chunk: Chunk) -> None:
    try:
        if line.too_long:
            raise Rejected(_TOO_LONG)
        chunk.add(parse(line.data, defaults), line.number, len(line.data))
    except Rejected as rejected:
        chunk.reject(Reject(line.number, str(rejected), line.data[:KEPT_BYTES], rough_ids(line.data)))
