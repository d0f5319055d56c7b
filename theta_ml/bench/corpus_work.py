"""The work that `theta bench corpus` measures: from Postgres to packed rows, ours and the usual pipeline's.

Each runs in a process of its own, on one core that the database server shares:
`python -m theta_ml.bench.corpus_work ours|usual JOB`, where JOB is a `Job` as JSON.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Any

PERMUTATIONS, BANDS, THRESHOLD = 128, 32, 0.5
"""Of MinHash on word 2-grams, for both."""
_CHUNK = 1000


@dataclass(frozen=True)
class Job:
    """What both are given."""

    url: str
    home: str
    month: str
    tokenizer: str
    """Folder of the tokenizer, trained before."""
    max_length: int


@dataclass
class Clock:
    """Seconds by stage, in the order they began. Stages may lie within each other."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def watch(self, module: Any, function: str, name: str) -> None:
        """Counts every call of a module's function as a stage."""
        inner: Callable[..., Any] = getattr(module, function)

        @wraps(inner)
        def timed(*arguments: Any, **named: Any) -> Any:
            with self.stage(name):
                return inner(*arguments, **named)

        setattr(module, function, timed)


def ours(job: Job, clock: Clock) -> dict[str, int]:
    """The stages `snapshot` and `prepare`, as an Airflow task runs them, with everything on."""
    from theta_ml.champion import Champion
    from theta_ml.corpus import duplicates, minhash, prepare, shapes, unit
    from theta_ml.corpus.spec import PrepareSpec
    from theta_ml.events import Events
    from theta_ml.landing import parquet, snapshot
    from theta_ml.settings import Settings
    from theta_ml.stage import run_stage
    from theta_ml.store import Store

    clock.watch(parquet, "redact", "  redaction")
    for name, stage in (("clean", "  cleaning"), ("_pieces", "  tokens"), ("write_shard", "  packing")):
        clock.watch(unit, name, stage)
    clock.watch(minhash, "marks", "  signatures")
    clock.watch(duplicates, "find", "  duplicates")
    clock.watch(prepare, "drop_lists", "  drop list")
    shapes.SHAPES["bench"] = shapes.CorpusShape(65_536, job.max_length)
    settings = Settings(home=Path(job.home), database_url=job.url)  # type: ignore[arg-type]
    store = Store(settings.artifacts, settings.home / "cache")
    checks = [_artifact(store, stage, {"passed": True, "outcome": ""}) for stage in ("validate", "drift")]
    champion = Champion(1, job.month, "bench", _artifact(store, "train", {"preset": "none"}, Path(job.tokenizer)))
    run = job.home  # each sees what has landed by now
    with Events("bench") as events:
        with clock.stage("snapshot"):
            frozen = run_stage(snapshot.STAGE, snapshot.SnapshotSpec(job.month), [], run, settings, events)
        spec = PrepareSpec(job.month, preset="bench", champion=champion, datasets="none")
        with clock.stage("prepare"):
            packed = run_stage(prepare.STAGE, spec, [frozen.uri, *checks], run, settings, events)
    corpus = store.open(packed.uri).document["value"]
    count = store.open(frozen.uri).document["value"]
    packed_unit = store.open(store.uri(unit.STAGE, corpus["units"][0]["key"])).document["value"]
    rows, tokens = (sum(packed_unit[name].values()) for name in ("rows", "tokens"))
    return {"text_bytes": count["text_bytes"], "messages": count["messages"], "rows": rows, "tokens": tokens}


def _artifact(store: Any, stage: str, value: dict[str, Any], tokenizer: Path | None = None) -> str:
    """An artifact as an earlier stage leaves it."""
    import shutil

    from theta_ml.store import DOCUMENT

    with store.writing(stage, "bench") as path:
        document = {"stage": stage, "version": 1, "key": "bench", "inputs": {}, "spec": {}, "value": value}
        (path / DOCUMENT).write_text(json.dumps(document))
        if tokenizer:
            shutil.copytree(tokenizer, path / "model")
    return str(store.uri(stage, "bench"))


def usual(job: Job, clock: Clock) -> dict[str, int]:
    """What one would put together: psycopg, `datasets`, the Hugging Face tokenizer, datasketch, TRL's packing.

    It neither redacts nor cleans, keeps no books, and cuts off what is longer than a row. Test conversations are there
    for their copies to leave and, as with us, go no further. All libraries are imported before the clock runs.
    """
    import datasketch  # noqa: F401
    import psycopg  # noqa: F401
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl.data_utils import pack_dataset

    with clock.stage("fetch"):
        conversations, tests = _fetched(job)
    with clock.stage("duplicates"):
        kept = _without_copies(conversations, tests)
    tokenizer = AutoTokenizer.from_pretrained(job.tokenizer, local_files_only=True)

    def encode(batch: dict[str, Any]) -> dict[str, Any]:
        encoded: Any = tokenizer.apply_chat_template(
            batch["messages"], tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        return {"input_ids": encoded["input_ids"], "assistant_masks": encoded["assistant_masks"]}

    with clock.stage("tokens"):
        dataset = Dataset.from_list([{"messages": messages} for messages in kept])
        dataset = dataset.map(encode, batched=True, batch_size=_CHUNK, remove_columns=["messages"])
    with clock.stage("packing"):
        packed = pack_dataset(dataset, job.max_length, "bfd")
        packed.save_to_disk(str(Path(job.home) / "packed"))
    tokens = sum(map(len, packed["input_ids"]))
    texts = [message["content"] for messages in conversations for message in messages]
    return {
        "text_bytes": sum(len(t.encode()) for t in texts),
        "messages": len(texts),
        "rows": len(packed),
        "tokens": tokens,
    }


def _fetched(job: Job) -> tuple[list[list[dict[str, str]]], set[int]]:
    """The messages of each conversation, and which of these are test conversations, as numbers."""
    import psycopg

    from theta_ml.landing.parquet import split_of

    query = (
        "SELECT conversation_id, role, content FROM conversations JOIN messages USING (conversation_id)"
        " ORDER BY conversation_id, position"
    )
    conversations: list[list[dict[str, str]]] = []
    tests: set[int] = set()
    last = None
    with psycopg.connect(job.url) as connection, connection.cursor("bench") as cursor:
        cursor.itersize = 10 * _CHUNK
        for conversation_id, role, content in cursor.execute(query):
            if conversation_id != last:
                if split_of(conversation_id) == "test":
                    tests.add(len(conversations))
                conversations.append([])
                last = conversation_id
            conversations[-1].append({"role": role, "content": content})
    return conversations, tests


def _without_copies(conversations: list[list[dict[str, str]]], tests: set[int]) -> list[list[dict[str, str]]]:
    """Those to learn from: no test conversations, and no copies of these or of each other."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(THRESHOLD, PERMUTATIONS, params=(BANDS, PERMUTATIONS // BANDS))
    kept: list[list[dict[str, str]]] = []
    for number in sorted(range(len(conversations)), key=lambda number: number not in tests):  # tests first: they stay
        messages = conversations[number]
        words = [word for message in messages for word in message["content"].lower().split()]
        grams = {f"{a} {b}".encode() for a, b in pairwise(words)} or {" ".join(words).encode()}
        signature = MinHash(PERMUTATIONS)
        signature.update_batch(grams)
        if not index.query(signature):
            index.insert(str(number), signature)
            kept += [] if number in tests else [messages]
    return kept


def _main(who: str, job: Job) -> None:
    from theta_ml.bench.landing_work import peak_bytes

    clock = Clock()
    started = time.perf_counter()
    counts = (ours if who == "ours" else usual)(job, clock)
    measured = {"seconds": time.perf_counter() - started, "stages": clock.seconds, "peak_bytes": peak_bytes()}
    print(json.dumps(measured | counts))  # noqa: T201


if __name__ == "__main__":
    _main(sys.argv[1], Job(**json.loads(sys.argv[2])))
