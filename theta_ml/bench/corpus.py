"""`theta bench corpus`: conversations from Postgres to packed rows, against the pipeline one would put together.

Both get the four real files, as one month, and a tokenizer that was trained before; both run on one core, which the
database server shares. The seconds are those of the work, not of importing libraries.
"""

import gzip
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import click
import psycopg

from theta_ml.bench import row
from theta_ml.bench.corpus_work import Job
from theta_ml.bench.landing import FILES, FOLDER, own_folder, server

REPEATS = 3
MONTH, DAY = "2026-01", date(2026, 1, 5)
MAX_LENGTH, VOCABULARY = 512, 16_384
FASTER, MB_A_SECOND, EFFICIENCY, GROWTH = 5.0, 2.0, 0.98, 1.2
"""Targets: times the peer's throughput, with everything on, of packing, and of memory for ten times the data."""
_EXTRA = ("  redaction", "  cleaning")
"""Stages that the peer does not do."""
_PEER = "psycopg, datasets, tokenizers, datasketch, trl"
_ONE_THREAD = ("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def bench_corpus() -> list[dict[str, Any]]:
    """Throughput, memory and packing; then landing, redaction and duplicates, each against its peer."""
    from theta_ml.bench.duplicates import duplicate_rows
    from theta_ml.bench.landing import landing_rows
    from theta_ml.bench.redaction import redaction_rows

    for file in FILES:
        if not (FOLDER / f"{file}.jsonl.gz").exists():
            raise click.ClickException(f"needs the real conversations {FOLDER / file}.jsonl.gz")
    with own_folder() as folder, _one_core(), server(folder) as url:
        tokenizer = _land(url, folder)
        runs: dict[str, list[dict[str, Any]]] = {"ours": [], "usual": []}
        for number in range(REPEATS):
            for who, measured in runs.items():
                measured.append(_measure(who, url, folder / f"{who}-{number}", tokenizer))
        rows = _throughput_rows(runs["ours"], runs["usual"]) + _memory_rows(url, folder, tokenizer)
    return rows + landing_rows() + redaction_rows() + duplicate_rows()


@contextmanager
def _one_core() -> Iterator[None]:
    """Processes that are started inside share one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _land(url: str, folder: Path) -> Path:
    """Lands the four files, all in one month; the folder of a tokenizer of them."""
    from theta_ml.corpus.tokenizer import train_tokenizer
    from theta_ml.landing.database import connect_url
    from theta_ml.landing.importing import Importer
    from theta_ml.landing.migrations import migrate

    migrate(url)
    with connect_url(url) as connection:
        importer = Importer(connection, day=DAY)
        for file in FILES:
            importer.run(undated(FOLDER / f"{file}.jsonl.gz", folder))
        texts = (content for (content,) in connection.execute("SELECT content FROM messages ORDER BY 1"))
        train_tokenizer(texts, VOCABULARY).save(folder / "tokenizer", MAX_LENGTH)
    return folder / "tokenizer"


def undated(path: Path, folder: Path) -> Path:
    """A copy in `folder` without the dates that some files have: all of it can land in one month."""
    copy = folder / path.name.removesuffix(".gz")
    with gzip.open(path, "rt") as lines, copy.open("w") as file:
        for record in map(json.loads, lines):
            messages = [{**message, "created_at": None} for message in record["messages"]]
            file.write(json.dumps({**record, "created_at": None, "messages": messages}) + "\n")
    return copy


def _measure(who: str, url: str, home: Path, tokenizer: Path) -> dict[str, Any]:
    home.mkdir()
    job = Job(url, str(home), MONTH, str(tokenizer), MAX_LENGTH)
    environment = os.environ | dict.fromkeys(_ONE_THREAD, "1") | {"TOKENIZERS_PARALLELISM": "false"}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, "-m", "theta_ml.bench.corpus_work", who, json.dumps(asdict(job))]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def _throughput_rows(ours: list[dict[str, Any]], usual: list[dict[str, Any]]) -> list[dict[str, Any]]:
    size = ours[0]["text_bytes"] / 1e6
    whole, peer = (size / statistics.median(map(_seconds, runs)) for runs in (ours, usual))
    equal = size / statistics.median(_seconds(run) - sum(run["stages"][name] for name in _EXTRA) for run in ours)
    filled = ours[0]["tokens"] / (ours[0]["rows"] * MAX_LENGTH)
    assert ours[0]["messages"] >= 0.99 * usual[0]["messages"], "the peer did other work"
    return [
        row("corpus, equal work", equal, "MB/s", peer=_PEER, peer_value=peer, ratio=equal / peer, target=FASTER,
            ok=equal / peer >= FASTER),
        row("corpus, everything on, one core", whole, "MB/s", target=MB_A_SECOND, ok=whole >= MB_A_SECOND),
        *_stage_rows(ours, usual),
        row(f"packing efficiency at {MAX_LENGTH}", filled, "share", target=EFFICIENCY, ok=filled >= EFFICIENCY),
    ]  # fmt: skip


def _seconds(run: dict[str, Any]) -> float:
    """Of the stages that lie in no other."""
    return sum(seconds for name, seconds in run["stages"].items() if not name.startswith(" "))


def _stage_rows(ours: list[dict[str, Any]], usual: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for who, runs in (("ours", ours), ("peer", usual)):
        for name in runs[0]["stages"]:
            seconds = statistics.median(run["stages"].get(name, 0.0) for run in runs)
            rows.append(row(f"{who}: {name.strip()}" if who == "peer" else f"ours: {name}", seconds, "s"))
    return rows


def _memory_rows(url: str, folder: Path, tokenizer: Path) -> list[dict[str, Any]]:
    """Peak memory of our process, snapshot and prepare in one, for half a million messages and for ten times as many.

    The database server's is not counted.
    """
    peaks = []
    for number, tenths in enumerate((16, 160)):
        _grow(url, tenths)
        measured = _measure("ours", url, folder / f"grown-{number}", tokenizer)
        peaks.append((measured["messages"], measured["peak_bytes"] / 2**20))
    (few, low), (many, high) = peaks
    return [
        row(f"peak memory, {few:,} messages", low, "MiB"),
        row(f"peak memory, {many:,} messages", high, "MiB", peer=f"{few:,} messages", peer_value=low, ratio=high / low,
            target=GROWTH, ok=high / low <= GROWTH),
    ]  # fmt: skip


def _grow(url: str, tenths: int) -> None:
    """Copies the conversations until there are tenths/10 times as many, under other ids and in other words."""
    with psycopg.connect(url) as connection:
        for copy in range(1, -(-tenths // 10)):
            others = _LETTERS[copy:] + _LETTERS[:copy]
            share = min(10, tenths - 10 * copy)
            values = {"prefix": f"{copy}-", "letters": _LETTERS, "others": others, "share": share}
            connection.execute(_COPY_CONVERSATIONS, values)
            connection.execute(_COPY_MESSAGES, values)


_LETTERS = "aeioumnrstldpcbhfg"
_COPY_CONVERSATIONS = """
INSERT INTO conversations (conversation_id, source, language, topics, rating, occurred_at)
SELECT %(prefix)s || conversation_id, source, language, topics, rating, occurred_at
FROM conversations
WHERE conversation_id !~ '^[0-9]+-' AND abs(hashtext(conversation_id)) %% 10 < %(share)s
ON CONFLICT DO NOTHING"""
_COPY_MESSAGES = """
INSERT INTO messages (conversation_id, occurred_at, position, role, content)
SELECT %(prefix)s || conversation_id, occurred_at, position, role, translate(content, %(letters)s, %(others)s)
FROM messages
WHERE conversation_id !~ '^[0-9]+-' AND abs(hashtext(conversation_id)) %% 10 < %(share)s
ON CONFLICT DO NOTHING"""
