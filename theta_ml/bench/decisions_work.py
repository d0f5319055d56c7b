"""The models that `theta bench decisions` lets the gate choose between: what they learn, and what they are scored on.

`python -m theta_ml.bench.decisions_work JOBS`, with a list of `Job` as JSON, trains them one after the other and writes
what each made of each conversation of the pool as Parquet; it prints the name of each file that is there.
"""

import gzip
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import theta_ml.threads  # noqa: F401  before torch

if TYPE_CHECKING:
    from theta_ml.corpus.rows import Rows
    from theta_ml.corpus.sources import Reading
    from theta_ml.corpus.tokenizer import ChatTokenizer
    from theta_ml.evaluation.conversations import HeldOut
    from theta_ml.model import ThetaForCausalLM
    from theta_ml.training.fit import Fit

VERSION = 1
"""Raise it when the same job would give another model or other scores: kept scores are then made anew."""
VOCABULARY, MAX_LENGTH = 1024, 256
WIDTH, LAYERS, HEADS, INNER = 128, 2, 2, 352
"""Of the decoder: 0.5 million parameters, so that a training takes half a minute of one core."""
UNITS = {"all": frozenset[str](), "without_taskmaster4": frozenset({"taskmaster4"})}
"""What is learned from: by name, the sources that are left out."""
LEARNED = 40
"""Percent of the train split's conversations that the models learn from."""
VALIDATION = 55
"""Percent of the validation split's that the trainer looks at; the others are part of the pool."""
MONTHS = ("2026-01", "2026-02", "2026-03")
"""The sources have no dates, or old ones: a conversation's month is drawn from its id, for the benchmark alone."""
_TOKENIZER, _UNITS = "tokenizer", "units"


@dataclass(frozen=True)
class Job:
    """One training."""

    corpus: str
    """Folder that `pack_corpora` filled."""
    unit: str
    """One of UNITS."""
    steps: int
    seed: int
    output: str
    """The Parquet file."""


def pool() -> "list[HeldOut]":
    """Conversations that no model of the benchmark learned from, in a fixed order, with their slices."""
    import pyarrow as pa

    from theta_ml.evaluation.conversations import held_out
    from theta_ml.landing.parquet import SCHEMA

    rows = [row for file in files() for row in _rows(file) if is_scored(row["conversation_id"])]
    return held_out(pa.Table.from_pylist(rows, SCHEMA), "test")


def is_scored(conversation_id: str) -> bool:
    from theta_ml.landing.parquet import split_of

    split = split_of(conversation_id)
    return split == "test" or (split == "validation" and percent(conversation_id) >= VALIDATION)


def is_learned(conversation_id: str) -> bool:
    """Or seen by the trainer as validation."""
    from theta_ml.landing.parquet import split_of

    share = {"train": LEARNED, "validation": VALIDATION, "test": 0}[split_of(conversation_id)]
    return percent(conversation_id) < share


def percent(conversation_id: str) -> int:
    """0 to 99, by another hash than the split's."""
    return int.from_bytes(hashlib.sha256(conversation_id.encode()).digest()[:8]) % 100


def pack_corpora(folder: Path) -> None:
    """One tokenizer, and each of UNITS."""
    from theta_ml.corpus.cleaning import Rules, clean
    from theta_ml.corpus.encoder import Encoder
    from theta_ml.corpus.tokenizer import train_tokenizer
    from theta_ml.corpus.unit import Terms, pack

    readings = [reading for file in files() for reading in _readings(file)]
    batches = [clean(reading.batch, Rules(samples=0)).batch for reading in readings]
    learned = (batch.keep(batch.conversations["split"] == "train").messages["content"] for batch in batches)
    tokenizer = train_tokenizer((text for contents in learned for text in contents), VOCABULARY)
    tokenizer.save(folder / _TOKENIZER, MAX_LENGTH)
    terms = Terms(Encoder(tokenizer), MAX_LENGTH)
    for name, without in UNITS.items():
        (folder / _UNITS / name).mkdir(parents=True)
        kept = [each for each in readings if not _sources(each) & without]
        pack(name, name, kept, terms, folder / _UNITS / name)


def train(job: Job, folder: Path) -> Path:
    """The model's folder."""
    import torch

    from theta_ml.corpus.tokenizer import ChatTokenizer
    from theta_ml.training.fit import fit

    torch.set_num_threads(1)
    tokenizer = ChatTokenizer.load(Path(job.corpus) / _TOKENIZER)
    fitting = _fitting(job, tokenizer, folder / "checkpoints")
    fit(fitting)
    fitting.model.save_pretrained(folder / "model")
    tokenizer.save(folder / "model", MAX_LENGTH)
    return folder / "model"


def _fitting(job: Job, tokenizer: "ChatTokenizer", checkpoints: Path) -> "Fit":
    from theta_ml.training.fit import Fit
    from theta_ml.training.presets import TINY

    hyper = TINY.hyper.changed({"epochs": 5, "max_steps": job.steps, "checkpoint_seconds": 1e9, "patience": None})
    unit = Path(job.corpus) / _UNITS / job.unit
    return Fit(
        model=_fresh(job.seed, tokenizer),
        hyper=hyper,
        train=_packed(unit, tokenizer, "train"),
        validation=_packed(unit, tokenizer, "validation"),
        peak=hyper.rate_scratch,
        seed=job.seed,
        folder=checkpoints,
    )


def _fresh(seed: int, tokenizer: "ChatTokenizer") -> "ThetaForCausalLM":
    import torch

    from theta_ml.model import ThetaConfig, ThetaForCausalLM
    from theta_ml.training.presets import ModelShape

    shape = ModelShape(WIDTH, LAYERS, HEADS, INNER).config(tokenizer, MAX_LENGTH) | {"attn_implementation": "eager"}
    torch.manual_seed(seed)
    return ThetaForCausalLM(ThetaConfig(**shape))


def _packed(unit: Path, tokenizer: "ChatTokenizer", split: str) -> "Rows":
    from theta_ml.corpus.feedback import TIERS
    from theta_ml.corpus.rows import PLAN, Rows, UnitRows
    from theta_ml.corpus.unit import group_of

    rows = UnitRows.open(unit, np.zeros(0, np.uint32))
    groups = [group_of(split, tier) for tier in range(len(TIERS))]
    chosen = np.flatnonzero(np.isin(rows.shard.groups, groups))
    plan = np.zeros(len(chosen), PLAN)
    plan["row"] = chosen
    return Rows(plan, [rows], MAX_LENGTH, tokenizer.begin, tokenizer.pad)


def _readings(file: Path) -> "Iterator[Reading]":
    import polars as pl

    from theta_ml.corpus.catalog import Dataset
    from theta_ml.corpus.sources import Reading, read
    from theta_ml.settings import Settings

    entry = Dataset(id=_source(file), category="bench", licence="CC-BY-4.0", source="file", path=str(file))
    for reading in read(entry, Settings(), redact=False):
        kept = pl.Series([is_learned(each) for each in reading.batch.conversations["conversation_id"]])
        yield Reading(reading.batch.keep(kept), reading.rejected)


def _sources(reading: "Reading") -> set[str]:
    return set(reading.batch.conversations["source"])


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    """As a snapshot holds them."""
    from theta_ml.month import Month

    source = _source(file)
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for found in map(json.loads, lines):
            conversation_id = f"{source}/{found['id']}"
            month = MONTHS[percent(conversation_id) % len(MONTHS)]
            yield {
                "conversation_id": conversation_id,
                "month": month,
                "source": source,
                "language": found.get("language"),
                "topic": next(iter(found.get("topics") or ()), None),
                "occurred_at": Month.parse(month).start,
                "split": "test",
                "messages": [{"role": said["role"], "content": said["content"]} for said in found["messages"]],
            }


def _source(file: Path) -> str:
    return file.name.removesuffix(".jsonl.gz")


@cache
def files() -> tuple[Path, ...]:
    """The real conversations, all four sources. Raises FileNotFoundError naming what is not there."""
    from theta_ml.bench.landing import FILES, FOLDER

    found = tuple(FOLDER / f"{file}.jsonl.gz" for file in FILES)
    missing = [str(file) for file in found if not file.exists()]
    if missing:
        raise FileNotFoundError(f"needs the real conversations {', '.join(missing)}")
    return found


def score(model: Path, conversations: "Sequence[HeldOut]", output: Path) -> None:
    """Writes the file whole or not at all: it is kept from one benchmark to the next."""
    import os

    import polars as pl

    from theta_ml.model.scoring import Score, score_conversations

    scores = score_conversations(model, [each.messages for each in conversations])
    columns = {name: [getattr(score, name) for score in scores] for name in Score._fields}
    partial = output.with_name(f"{output.name}.{os.getpid()}")
    pl.DataFrame({"conversation_id": [each.conversation_id for each in conversations], **columns}).write_parquet(
        partial
    )
    partial.rename(output)


def _main(jobs: list[Job]) -> None:
    import tempfile

    conversations = pool()
    for job in jobs:
        with tempfile.TemporaryDirectory() as folder:
            score(train(job, Path(folder)), conversations, Path(job.output))
        print(job.output, flush=True)  # noqa: T201


if __name__ == "__main__":
    _main([Job(**job) for job in json.loads(sys.argv[1])])
