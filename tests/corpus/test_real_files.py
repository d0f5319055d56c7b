"""The four real files: they land, are frozen, prepared and packed, and every conversation is accounted for."""

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import psycopg
import pytest

from tests.corpus.real import FILES, FOLDER
from tests.corpus.snapshots import passed_checks
from theta_ml.bench.corpus import undated
from theta_ml.corpus import prepare
from theta_ml.events import Events
from theta_ml.landing import snapshot
from theta_ml.landing.importing import Importer
from theta_ml.settings import Settings
from theta_ml.stage import run_stage
from theta_ml.store import Store

MONTH, DAY = "2026-01", date(2026, 1, 5)
BENCHMARKS = FOLDER.parent / "benchmarks"


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Iterator[Settings]:
    missing = [str(FOLDER / f"{file}.jsonl.gz") for file in FILES if not (FOLDER / f"{file}.jsonl.gz").exists()]
    if missing:
        pytest.skip(f"needs the real conversations {', '.join(missing)}")
    return Settings(home=tmp_path, database_url=database_url)  # type: ignore[arg-type]


def test_every_conversation_is_accounted_for(settings: Settings) -> None:
    with psycopg.connect(settings.require_database()) as connection:
        importer = Importer(connection, day=DAY)
        results = [importer.run(undated(FOLDER / f"{file}.jsonl.gz", settings.home)) for file in FILES]
    landed = sum(result.counts.conversations for result in results)
    assert landed + sum(result.counts.rejected for result in results) == 22_150
    store = Store(settings.artifacts, settings.home / "cache")
    with Events("test") as events:
        frozen = run_stage(snapshot.STAGE, snapshot.SnapshotSpec(MONTH), [], "test", settings, events)
        inputs = [frozen.uri, *passed_checks(store)]
        spec = prepare.PrepareSpec(MONTH, benchmarks=str(BENCHMARKS))
        packed = run_stage(prepare.STAGE, spec, inputs, "test", settings, events)
    books = json.loads((store.open(packed.uri).path / "report.json").read_text())
    month, *datasets = books["units"]
    parts = month["held_out"] + sum(sum(month[name].values()) for name in ("rejected", "dropped", "kept"))
    set_aside = store.open(frozen.uri).document["value"]["months"][MONTH]["quarantined"]
    assert month["read"] == landed - set_aside == parts
    assert set_aside < 0.001 * landed  # real talk, undamaged
    assert month["kept"]["train"] > 14_000 and month["rejected"] == {"no_assistant_turn": 941}
    assert month["dropped"]["near copy"] > 100 and month["dropped"]["exact copy"] > 10
    assert sum(unit["kept"]["train"] >= 40 for unit in datasets) == len(datasets) - 1  # but for the canaries
    with psycopg.connect(settings.require_database()) as connection:
        taken = connection.execute("SELECT count(*) FROM training_data WHERE month = %s", [MONTH]).fetchone()
    assert taken == (sum(month["kept"].values()),)
