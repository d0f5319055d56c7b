"""A home with a packed corpus and a preset so small that a trial takes a second."""

from pathlib import Path
from typing import Any

import pytest

from tests.corpus.snapshots import conversations, passed_checks, write_snapshot
from theta_ml.corpus import prepare
from theta_ml.corpus.spec import PrepareSpec
from theta_ml.events import Events
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, parse_spec, run_stage
from theta_ml.store import Store
from theta_ml.training import presets
from theta_ml.tuning import study
from theta_ml.tuning.spec import Study
from theta_ml.tuning.trial import Tuning

MONTH = "2026-02"
HYPER = presets.Hyper(
    rows_per_step=4,
    rows_at_once=4,
    epochs=50,
    max_steps=24,
    rate_scratch=1e-6,  # so low that chance beats it
    rate_champion=1e-4,
    validation_rows=8,
)
SHAPE = presets.ModelShape(hidden_size=32, layers=1, heads=2, intermediate_size=64)


class Home:
    def __init__(self, path: Path, database_url: str, mlflow_uri: str | None = None) -> None:
        self.settings = Settings(home=path, database_url=database_url, mlflow_tracking_uri=mlflow_uri)  # type: ignore[arg-type]
        self.store = Store(self.settings.artifacts, path / "cache")
        snapshot = write_snapshot(self.store, {MONTH: conversations(MONTH, 200)})
        with Events("prepare") as events:
            inputs = [snapshot, *passed_checks(self.store)]
            self.corpus = run_stage(
                prepare.STAGE, PrepareSpec(MONTH, datasets="none"), inputs, "t", self.settings, events
            ).uri

    def study(self, run_id: str = "run", **values: Any) -> str:
        """URI of the study with these parameters."""
        spec = parse_spec(study.STAGE, {"month": MONTH, **values})
        with Events("study") as events:
            return run_stage(study.STAGE, spec, [self.corpus], run_id, self.settings, events).uri

    def tuning(self, uri: str, run_id: str = "run") -> Tuning:
        artifacts = [self.store.open(each) for each in (self.corpus, uri)]
        inputs = Inputs({artifact.stage: artifact for artifact in artifacts})
        return Tuning.of(inputs, run_id, self.settings, self.store, Events("trial"))

    def name(self, uri: str) -> str:
        return Study(**self.store.open(uri).document["value"]).name


def shrink(patch: pytest.MonkeyPatch, checkpoint_seconds: float = 60.0) -> None:
    """Makes `tiny` that small."""
    hyper = HYPER.changed({"checkpoint_seconds": checkpoint_seconds})
    patch.setitem(presets.PRESETS, "tiny", presets.Preset("tiny", SHAPE, hyper))
