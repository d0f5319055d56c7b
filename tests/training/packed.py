"""A home with a packed corpus in it, for the tests of the stages that read one."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import postgres
from tests.corpus.snapshots import conversations, passed_checks, write_artifact, write_snapshot
from theta_ml.corpus import prepare, spec
from theta_ml.events import Events
from theta_ml.settings import Settings
from theta_ml.stage import run_stage
from theta_ml.store import Store

MONTH = "2026-01"


@dataclass(frozen=True)
class Packed:
    """Where it is."""

    home: Path
    database: str
    corpus: str
    """URI."""
    preflight: str
    """URI of a report that says all is well."""

    @property
    def store(self) -> Store:
        return Store(Settings(home=self.home).artifacts, self.home / "cache")


@pytest.fixture(scope="module")
def database(postgres_url: str, migrated_template: str) -> Iterator[str]:
    yield from postgres._fresh(postgres_url, migrated_template)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, database: str) -> Packed:
    home = tmp_path_factory.mktemp("home")
    settings = Settings(home=home, database_url=database)  # type: ignore[arg-type]
    store = Store(settings.artifacts, home / "cache")
    inputs = [write_snapshot(store, {MONTH: conversations(MONTH, 300)}), *passed_checks(store)]
    with Events("prepare") as events:
        made = run_stage(prepare.STAGE, spec.PrepareSpec(MONTH), inputs, "test", settings, events)
    return Packed(home, database, made.uri, write_artifact(store, "preflight", {"passed": True, "sentence": ""}))
