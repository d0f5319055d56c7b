"""Four shards on two workers of one core each, against the same shards on one of them, and against no shards.

The work is a month's snapshot and its packed corpus, of the same conversations; Postgres runs on the cores that the
workers have. What is not split (merging the snapshot, finding copies across shards, packing) counts.
"""

import hashlib
import itertools
import json
import os
import queue
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import psutil

from theta_ml.bench import row
from theta_ml.bench.corpus_work import _artifact
from theta_ml.bench.landing import _database, _work, own_folder, server
from theta_ml.bench.quality_gate_cost import _say
from theta_ml.bench.scale_data import conversations, write
from theta_ml.bench.scale_stages import command
from theta_ml.bench.stack import clean_environment
from theta_ml.store import MARKER, Artifact, Store

MESSAGES = 1_000_000
LEARNED = 5_000
"""Conversations that the tokenizer learns from."""
RUN = "bench"
SHARDS = 4
WORKERS = 2
ROUNDS = 3
TARGET = 1.7
"""Times the throughput of one worker, with the same shards."""
_ONE_THREAD = ("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Place:
    """Where the stages work: a home of their own, one database for all."""

    home: Path
    database: str
    postgres: Path
    """The server's folder."""
    tokenizer: Path
    """That of every run but the first is there before; to train one is not split."""

    @property
    def environment(self) -> dict[str, str]:
        own = {"THETA_HOME": str(self.home), "THETA_DATABASE_URL": self.database}
        return clean_environment() | own | dict.fromkeys(_ONE_THREAD, "1") | {"TOKENIZERS_PARALLELISM": "false"}

    @property
    def store(self) -> Store:
        return Store(str(self.home / "artifacts"), self.home / "cache")

    @property
    def base(self) -> tuple[str, ...]:
        """Parameters of the corpus' stages that name the tokenizer."""
        return ("--set", "tokenizer=base", "--set", f"base={self.tokenizer}")

    def checks(self) -> list[str]:
        """What validation and drift say of such months is beside the point here."""
        return [_artifact(self.store, stage, {"passed": True, "outcome": ""}) for stage in ("validate", "drift")]


class Workers:
    """Each has a core of its own, and takes the next command as soon as it has done one."""

    def __init__(self, cores: Sequence[int], environment: dict[str, str]) -> None:
        self._environment = environment
        self._cores: queue.SimpleQueue[int] = queue.SimpleQueue()
        for core in cores:
            self._cores.put(core)
        self._pool = ThreadPoolExecutor(len(cores), initializer=self._pin)

    def _pin(self) -> None:
        # Of this thread alone, and of the processes that it starts.
        os.sched_setaffinity(0, {self._cores.get()})

    def run(self, *commands: list[str]) -> list[str]:
        """The artifacts' URIs, in the commands' order. Raises CalledProcessError."""
        return list(self._pool.map(self._one, commands))

    def _one(self, words: list[str]) -> str:
        done = subprocess.run(words, env=self._environment, stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout.split()[-1]

    def close(self) -> None:
        self._pool.shutdown()


@dataclass(frozen=True)
class Made:
    """What one way made, and how long it took."""

    seconds: float
    made: tuple[str, ...]
    """Content of the snapshot and of the corpus."""


def shard_rows() -> list[dict[str, Any]]:
    """Raises ClickException where there are not two cores."""
    cores = worker_cores()
    with own_folder() as folder, server(folder) as url:
        database, path = _database(url, "theta"), folder / "all.jsonl"
        _, messages = write(path, conversations(), MESSAGES)
        _work("import", path, database)
        place = Place(folder / "home", database, folder / "pg", _tokenizer(folder / "base"))
        ways = ((_whole, cores[:1]), (_sharded, cores[:1]), (_sharded, cores))
        rounds = [[_timed(place, on, way) for way, on in ways] for _ in range(ROUNDS)]
    # Content keys and checksums: of the same conversations, the same bytes.
    assert len({each.made for made in rounds for each in made}) == 1, "the shards made something else"
    return _rows(messages, *(statistics.median(each.seconds for each in way) for way in zip(*rounds, strict=True)))


def worker_cores() -> list[int]:
    """One for each worker. Raises ClickException where there are not as many."""
    cores = sorted(os.sched_getaffinity(0))[-WORKERS:]
    if len(cores) < WORKERS:
        raise click.ClickException(f"the shards' workers need {WORKERS} cores, one each; there is one")
    return cores


def _tokenizer(folder: Path) -> Path:
    from theta_ml.corpus.shapes import corpus_shape
    from theta_ml.corpus.tokenizer import train_tokenizer

    shape = corpus_shape("tiny")
    some = itertools.islice(conversations(), LEARNED)
    texts = (message["content"] for each in some for message in each["messages"])
    train_tokenizer(texts, shape.vocabulary).save(folder, shape.max_length)
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": shape.max_length}))
    return folder


def _rows(messages: int, whole: float, one: float, two: float) -> list[dict[str, Any]]:
    """From the seconds of each way."""
    title = f"snapshot and corpus of {messages:,} messages, {SHARDS} shards on {WORKERS} workers of one core"
    mine, unit, gain = messages / two, "messages/s", one / two
    return [
        row(
            title, mine, unit, peer="the same shards on one of them", peer_value=messages / one, ratio=gain,
            target=TARGET, ok=gain >= TARGET,
        ),
        row(
            f"{title}, all told", mine, unit, peer="one worker, no shards", peer_value=messages / whole,
            ratio=whole / two,
        ),
    ]  # fmt: skip


def _timed(place: Place, cores: Sequence[int], way: Callable[[Place, Workers], list[str]]) -> Made:
    """In a home of its own, Postgres on the same cores."""
    postmaster = psutil.Process(int((place.postgres / "postmaster.pid").read_text().split()[0]))
    for process in (postmaster, *postmaster.children(recursive=True)):
        process.cpu_affinity(list(cores))
    _say(f"{way.__name__.strip('_')}, {len(cores)} cores")
    workers = Workers(cores, place.environment)
    try:
        started = time.perf_counter()
        uris = way(place, workers)
        seconds = time.perf_counter() - started
        return Made(seconds, _contents(place, uris))
    finally:
        workers.close()
        shutil.rmtree(place.home, ignore_errors=True)


def _contents(place: Place, uris: list[str]) -> tuple[str, ...]:
    """Of these artifacts, and of all units of the corpus."""
    store = place.store
    units = store.open(uris[-1]).document["value"]["units"]
    return tuple(_content(store.open(uri)) for uri in [*uris, *(store.uri("pack", unit["key"]) for unit in units)])


def _content(artifact: Artifact) -> str:
    """Key, and a digest of all files by name but for the marker, which says when they were made."""
    digest = hashlib.sha256()
    for file in sorted(each for each in artifact.path.rglob("*") if each.is_file() and each.name != MARKER):
        digest.update(str(file.relative_to(artifact.path)).encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return f"{artifact.key} {digest.hexdigest()}"


def _whole(place: Place, workers: Workers) -> list[str]:
    (snapshot,) = workers.run(command("snapshot", [], RUN))
    (corpus,) = workers.run(command("prepare", [snapshot, *place.checks()], RUN, *place.base))
    return [snapshot, corpus]


def _sharded(place: Place, workers: Workers) -> list[str]:
    """As theta_retrain does it with `--shards`."""
    numbers = [("--set", f"shards={SHARDS}", "--set", f"shard={number}") for number in range(SHARDS)]
    extracts = workers.run(*(command("extract", [], RUN, *number) for number in numbers))
    (snapshot,) = workers.run(command("snapshot", extracts, RUN))
    given = [snapshot, *place.checks()]
    spools = workers.run(*(command("spool", given, RUN, *place.base, *number) for number in numbers))
    (corpus,) = workers.run(command("prepare", [*given, *spools], RUN, *place.base))
    return [snapshot, corpus]
