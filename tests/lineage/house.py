"""An installation with two months landed, two corpora of them, and two models that were trained on those."""

import gzip
import json
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow.parquet as pq

from tests.corpus.snapshots import conversations, passed_checks
from tests.landing.feed import land, write
from theta_ml.champion import Champion
from theta_ml.corpus.prepare import STAGE as PREPARE
from theta_ml.corpus.spec import PrepareSpec
from theta_ml.corpus.tokenizer import ChatTokenizer
from theta_ml.events import Events
from theta_ml.landing.parquet import split_of
from theta_ml.landing.snapshot import STAGE as SNAPSHOT
from theta_ml.landing.snapshot import SnapshotSpec
from theta_ml.lineage.audit import Subject
from theta_ml.lineage.erase import Report, erase
from theta_ml.registry.publish import publish_evidence, register_candidate
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, Result, run_stage
from theta_ml.store import DOCUMENT, Store
from theta_ml.tracking import retraining_run

USER = "user-of-note-4711"
SECRETS = ("zanzibarquux", "wobblefritz")
"""Words that only the conversation has which is erased."""


def line(conversation_id: str, month: str, texts: list[tuple[str, str]], **more: Any) -> dict[str, Any]:
    messages = [{"role": role, "content": content} for role, content in texts]
    return {"id": conversation_id, "source": "app", "created_at": f"{month}-05T12:00:00Z", "messages": messages} | more


def plain(month: str, count: int) -> list[dict[str, Any]]:
    return [
        line(c["conversation_id"], month, [(m["role"], m["content"]) for m in c["messages"]])
        for c in conversations(month, count)
    ]


def noted(conversation_id: str, **more: Any) -> dict[str, Any]:
    """One that cleaning mends, so that reports show an excerpt of it."""
    texts = [
        ("user", f"Hello,   is the {SECRETS[0]} <b>really</b> here  \n\n\n\n\n today?"),
        ("assistant", f"Yes, the {SECRETS[1]} came in <i>this</i> morning, &amp; the {SECRETS[0]} stays."),
    ]
    return line(conversation_id, "2026-01", texts, user_id=USER, **more)


def id_in(split: str, start: str = "noted") -> str:
    """An id that its hash puts into the split."""
    return next(name for number in range(1000) if split_of(name := f"{start}-{number}") == split)


@dataclass
class House:
    settings: Settings

    @property
    def store(self) -> Store:
        return Store(self.settings.artifacts, self.settings.home / "cache")

    @property
    def url(self) -> str:
        return self.settings.require_database()

    def land(self, lines: list[Any]) -> None:
        land(self.url, write(self.settings.home.parent / f"feed-{uuid.uuid4().hex}.jsonl", lines))

    def snapshot(self, month: str, run: str) -> Result:
        with Events("snapshot") as events:
            return run_stage(SNAPSHOT, SnapshotSpec(month), [], run, self.settings, events)

    def prepare(self, snapshot: str, month: str, champion: Champion | None = None, datasets: str = "none") -> Result:
        spec = PrepareSpec(month, champion=champion, datasets=datasets)
        with Events("prepare") as events:
            return run_stage(PREPARE, spec, [snapshot, *passed_checks(self.store)], "run", self.settings, events)

    def train(self, corpus: Result, month: str, champion: Champion | None = None, method: str = "finetune") -> Champion:
        """A model's artifact, as `train` would leave it but for weights that nobody needs here."""
        key = uuid.uuid4().hex
        start = f"champion v{champion.version}" if champion else "scratch"
        spec = {"month": month, "champion": champion and vars(champion), "recipe": {"method": method}}
        value = {"month": month, "preset": "tiny", "start": start, "steps": 1}
        with self.store.writing("train", key) as path:
            tokenizer = ChatTokenizer.load(self.store.open(corpus.uri).path / "tokenizer")
            tokenizer.save(path / "model", 256)
            (path / "model" / "config.json").write_text('{"max_position_embeddings": 256}')
            (path / "history.jsonl").write_text('{"step": 1, "train_loss": 5.0}\n')
            document = {"stage": "train", "key": key, "spec": spec, "inputs": {"prepare": corpus.key}, "value": value}
            (path / DOCUMENT).write_text(json.dumps(document))
        return Champion(0, month, key, self.store.uri("train", key))

    def register(self, model: Champion, corpus: Result, run: str) -> int:
        """Its version, with the corpus' report among the evidence."""
        mlflow_run = retraining_run(self.settings, run, model.month)
        train = self.store.open(model.uri)
        publish_evidence(self.settings, mlflow_run, Inputs(prepare=self.store.open(corpus.uri), train=train))
        return register_candidate(self.settings, mlflow_run, train, model.month)

    def erase(self, scope: str, name: str, reason: str = "") -> Report:
        with Events("erase") as events:
            return erase(self.settings, Subject(scope, name), events, reason)

    def taken(self, key: str) -> set[str]:
        with psycopg.connect(self.url) as connection:
            rows = connection.execute("SELECT conversation_id FROM training_data WHERE corpus_key = %s", [key])
            return {row[0] for row in rows}

    def found_in(self, *words: str) -> list[str]:
        """Files of the installation that hold one of the words, however they are written."""
        return sorted({name for name, text in self._texts() if any(word in text for word in words)})

    def found_in_database(self, *words: str) -> list[str]:
        tables = ["conversations", "messages", "model_feedback", "erasures", "training_data", "disliked_data"]
        tables += ["import_batches"]
        found = []
        with psycopg.connect(self.url) as connection:
            for table in tables:
                rows = connection.execute(f"SELECT t::text FROM {table} AS t").fetchall()
                found += [table for (text,) in rows if any(word in text for word in words)]
            for (raw,) in connection.execute("SELECT raw FROM rejected_rows").fetchall():
                found += ["rejected_rows" for word in words if word.encode() in raw]
        return sorted(set(found))

    def _texts(self) -> Iterator[tuple[str, str]]:
        with tempfile.TemporaryDirectory() as folder:
            if not self.store.local:
                self.store.fs.get(self.store.base, f"{folder}/bucket/", recursive=True)
            paths = [path for root in (self.settings.home, Path(folder)) for path in root.rglob("*") if path.is_file()]
            decoders = [ChatTokenizer.load(path.parent).tokenizer for path in paths if path.name == "tokenizer.json"]
            for path in paths:
                if path.name != "tokenizer.json":  # a model's: it has learned
                    yield str(path), _text(path, decoders)


def _text(path: Path, decoders: list[Any]) -> str:
    if path.suffix == ".parquet":
        return json.dumps(pq.read_table(path).to_pylist(), default=str, ensure_ascii=False)
    if path.name == "tokens.npy":
        rows = np.load(path).tolist()
        return "\n".join(text for decoder in decoders for text in decoder.decode_batch(rows))
    raw = path.read_bytes()
    return (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode(errors="replace")
