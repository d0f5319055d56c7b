"""Months of conversations in a real landing zone, frozen and validated as the pipeline does it."""

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from pydantic import SecretStr

from tests.quality.snapshots import Conversation
from theta_ml.events import Events
from theta_ml.landing import snapshot
from theta_ml.landing.database import connect_url
from theta_ml.landing.months import make_months
from theta_ml.quality import validate
from theta_ml.quality.validate import ValidationReport
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, Result, Stage, parse_spec, run_stage
from theta_ml.store import Store

Months = dict[str, list[Conversation]]
LATER = "2100-01-01T00:00:00+00:00"


@dataclass
class Landed:
    """Stages on a database of a test's own."""

    url: str
    folder: Path
    times: int = 0
    """How often something landed: artifacts of what landed before are not found again."""

    @property
    def settings(self) -> Settings:
        return Settings(home=self.folder / f"home-{self.times}", database_url=SecretStr(self.url))

    @property
    def store(self) -> Store:
        return Store(self.settings.artifacts, self.settings.home / "cache")

    def validate(self, months: Months, watermark: str = LATER, **values: Any) -> tuple[ValidationReport, Path]:
        """The report on the newest of `months`, in place of whatever had landed; and the folder of its files."""
        self.land(months)
        return self.judge(max(months), watermark, **values)

    def judge(self, month: str, watermark: str = LATER, **values: Any) -> tuple[ValidationReport, Path]:
        """Of what has landed."""
        frozen = self.run(snapshot.STAGE, [], month=month, watermark=watermark, window_months=0)
        result = self.run(validate.STAGE, [frozen.uri], month=month, **values)
        artifact = self.store.open(result.uri)
        return Inputs(validate=artifact).noun("validate", ValidationReport), artifact.path

    def run(self, stage: Stage[Any], inputs: list[str], **values: Any) -> Result:
        return run_stage(stage, parse_spec(stage, values), inputs, "test", self.settings, Events(stage.name))

    def land(self, months: Months) -> None:
        """As it is, however damaged: the import would turn some of it away."""
        self.times += 1
        rows = [row for conversations in months.values() for row in _unique(conversations)]
        with connect_url(self.url) as connection:
            connection.execute("TRUNCATE conversations, landed_ids CASCADE")
            make_months(connection, {row["created_at"][:7] for row in rows})
            with copying(connection, "conversations", _CONVERSATION) as write:
                for row in rows:
                    write.write_row(_conversation(row))
            with copying(connection, "messages", _MESSAGE) as write:
                for row in rows:
                    for position, message in enumerate(row["messages"]):
                        write.write_row(_message(row, position, message))


_CONVERSATION = "conversation_id, source, language, topics, user_id, rating, occurred_at, landed_at"
_MESSAGE = "conversation_id, occurred_at, position, role, content, author, rating, created_at"


@contextmanager
def copying(connection: psycopg.Connection, table: str, columns: str) -> Iterator[psycopg.Copy]:
    with connection.cursor().copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
        yield copy


def _unique(conversations: Iterable[Conversation]) -> Iterator[Conversation]:
    """What came again comes under another id: the table takes an id once."""
    seen: set[str] = set()
    for conversation in conversations:
        again = conversation["id"] in seen
        seen.add(conversation["id"])
        yield {**conversation, "id": f"{conversation['id']}-{uuid.uuid4()}"} if again else conversation


def _conversation(row: Conversation) -> tuple[Any, ...]:
    user = row.get("user_id") or next((m["author"] for m in row["messages"] if m.get("author")), None)
    return (
        row["id"],
        row["source"],
        row.get("language"),
        row.get("topics") or [],
        user,
        row.get("rating"),
        datetime.fromisoformat(row["created_at"]),
        datetime.fromisoformat("2000-01-01T00:00:00+00:00"),
    )


def _message(row: Conversation, position: int, message: dict[str, Any]) -> tuple[Any, ...]:
    return (
        row["id"],
        datetime.fromisoformat(row["created_at"]),
        position,
        message["role"],
        message["content"],
        message.get("author"),
        message.get("rating"),
        datetime.fromisoformat(message["created_at"]) if message.get("created_at") else None,
    )
