"""Runs decide, promote and notify as `theta stage` does, on artifacts of the stages before that a test describes."""

import hashlib
import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from tests.evaluation.reports import GOOD
from theta_ml.champion import Champion
from theta_ml.cli.stage import load_stage
from theta_ml.evaluation import evaluate as evaluation
from theta_ml.evaluation.evaluate import EvaluateSpec
from theta_ml.evaluation.report import EvaluationReport
from theta_ml.evaluation.selection import Candidate, Selection
from theta_ml.events import Events
from theta_ml.registry.champion import current, registered_model
from theta_ml.registry.ledger import Entry, decisions, open_ledger
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, Stage, Work, run_stage
from theta_ml.store import DOCUMENT, Artifact, Store
from theta_ml.training.recipe import find_recipe

HISTORY = [{"step": step, "time": 1.7e9 + step, "train_loss": 5.0 - step / 10} for step in range(10)]


def script(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on `scripted` stands for the stage `evaluate`."""
    monkeypatch.setattr(evaluation, "STAGE", Stage("evaluate", 1, EvaluateSpec, scripted))


class Recorder(Events):
    """Events that a test can read."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []

    def _emit(self, event: str, **fields: Any) -> None:
        self.seen.append((event, fields))

    @property
    def mails(self) -> list[dict[str, Any]]:
        return [fields["mail"] for event, fields in self.seen if event == "mail"]


class Pipeline:
    """One installation: settings, a store, and what its stages said."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(settings.artifacts, settings.home / "cache")
        self.events = Recorder()

    def make(
        self,
        stage: str,
        value: Any,
        spec: Any = None,
        files: dict[str, str] | None = None,
        inputs: dict[str, str] | None = None,
    ) -> str:
        """URI of an artifact as `stage` would have made it, of the artifacts at `inputs`."""
        keys = {name: uri.rpartition("/")[2] for name, uri in (inputs or {}).items()}
        document = {"stage": stage, "version": 1, "spec": spec or {}, "inputs": keys, "noun": "", "value": value}
        key = hashlib.sha256(json.dumps([document, files], sort_keys=True).encode()).hexdigest()[:32]
        with self.store.writing(stage, key) as path:
            for name, text in (files or {}).items():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                (path / name).write_text(text)
            (path / DOCUMENT).write_text(json.dumps({**document, "key": key}))
        return self.store.uri(stage, key)

    def data(self, month: str, *, passed: bool = True, new: int = 500) -> list[str]:
        """Snapshot, validation and drift report of a month."""
        snapshot = {
            "month": month, "watermark": f"{month}-28T00:00:00+00:00", "window": [month], "conversations": new,
            "new_conversations": new, "messages": 2 * new, "text_bytes": 100 * new, "months": {}, "redacted": {},
            "files": {}, "query": "SELECT 1",
        }  # fmt: skip
        sentence = "Everything is as expected." if passed else "4 conversations have no assistant."
        validation = {"month": month, "passed": passed, "sentence": sentence, "checks": [], "quarantined": {}}
        drift = {
            "month": month, "reference_month": None, "outcome": "no_reference", "sentence": "The first month.",
            "share": None, "columns": list[str](), "comparisons": list[str](), "indicators": dict[str, float](),
        }  # fmt: skip
        page = {"report.html": "<html>"}
        return [
            self.make("snapshot", snapshot, {"month": month}),
            self.make("validate", validation, {"month": month}, page | {"data_docs/index.html": "<html>"}),
            self.make("drift", drift, {"month": month}, page),
        ]

    def training(
        self,
        month: str,
        mark: str = "",
        recipe: str = "continue",
        inputs: dict[str, str] | None = None,
        bits_per_byte: float = 2.41,
        speaks: bool = True,
    ) -> str:
        """Of a model of which `scripted` says so many bits per byte."""
        value = {
            "month": month, "preset": "tiny", "start": "scratch", "parameters": 10, "epochs": 1, "steps": 10,
            "best_step": 10, "train_loss": 4.0, "validation_loss": 4.1, "tokens_per_second": 1.0, "device": "cpu",
            "resumed_from": None, "recipe": recipe,
        }  # fmt: skip
        spec = {
            "month": month, "preset": "tiny", "recipe": asdict(find_recipe(recipe, self.settings)), "champion": None,
            "epochs": None, "max_steps": None, "rate": None, "seed": 1, "mark": mark, "learning_rate": 5e-5,
        }  # fmt: skip
        model = {"mark": mark, "bits_per_byte": bits_per_byte, "speaks": speaks}
        files = {
            "model/config.json": json.dumps(model),
            "model/model.safetensors": "weights " * 100,
            "history.jsonl": "\n".join(map(json.dumps, HISTORY)),
        }
        return self.make("train", value, spec, files, inputs)

    def selection(self, month: str, trained: dict[str, str], best: str) -> str:
        """Of candidates by recipe, each but the best with a larger number than the one before."""
        candidates = [
            Candidate(recipe, uri, uri.rpartition("/")[2], 10, 2.5 - (recipe == best) + number / 100)
            for number, (recipe, uri) in enumerate(trained.items())
        ]
        return self.make("select", asdict(Selection(month, 50, candidates, best, trained[best], f"{best} is best.")))

    def preflight(self, month: str) -> str:
        value = {
            "month": month, "passed": True, "sentence": "It learns.", "loss_first": 9.0, "loss_last": 7.0,
            "parameters": 10, "estimated_memory_bytes": 1, "available_memory_bytes": 2, "estimated_seconds": 1.0,
            "free_disk_bytes": 10,
        }  # fmt: skip
        return self.make("preflight", value, {"month": month})

    def measured(
        self, month: str, run_id: str, mark: str, bits_per_byte: float = 2.41, speaks: bool = True
    ) -> list[str]:
        """URIs of everything up to an evaluation by `scripted` against whoever is champion."""
        training = self.training(month, mark, bits_per_byte=bits_per_byte, speaks=speaks)
        uris = [*self.data(month), self.preflight(month), training]
        return [*uris, self.stage("evaluate", month, run_id, uris).uri]

    def run(self, month: str, champion: Champion | None, mark: str = "", **report: Any) -> list[str]:
        """URIs of everything up to an evaluation against `champion`, better by 0.38 bits per byte unless told."""
        evaluation = _evaluation(month, champion, report)
        spec = {"month": month, "champion": asdict(champion) if champion else None}
        return [
            *self.data(month),
            self.preflight(month),
            self.training(month, mark),
            self.make("evaluate", asdict(evaluation), spec),
        ]

    def stage(self, name: str, month: str, run_id: str, uris: list[str], **values: Any) -> Artifact:
        stage = load_stage(name)
        spec = stage.spec(month=month, **values)
        return self.store.open(run_stage(stage, spec, uris, run_id, self.settings, self.events).uri)

    def decide(self, month: str, run_id: str, uris: list[str], **values: Any) -> Artifact:
        return self.stage("decide", month, run_id, uris, **values)

    def promote(self, month: str, run_id: str, uris: list[str], decided: Artifact, **values: Any) -> Artifact:
        return self.stage("promote", month, run_id, [*uris, decided.uri], **values)

    def decline(self, month: str, run_id: str, uris: list[str], decided: Artifact, **values: Any) -> Artifact:
        return self.stage("decline", month, run_id, [*uris, decided.uri], **values)

    def crown(self, month: str, run_id: str, mark: str = "") -> Champion:
        """A whole run that ends with a new champion."""
        uris = self.run(month, self.champion, mark)
        self.promote(month, run_id, uris, self.decide(month, run_id, uris, bootstrap=self.champion is None))
        champion = self.champion
        assert champion is not None
        return champion

    @property
    def champion(self) -> Champion | None:
        return current(self.settings)

    @property
    def aliases(self) -> dict[str, int]:
        model = registered_model(self.settings)
        return {name: int(version) for name, version in (model.aliases if model else {}).items()}

    @property
    def ledger(self) -> list[Entry]:
        with open_ledger(self.settings) as connection:
            return decisions(connection)


def scripted(spec: EvaluateSpec, inputs: Inputs, work: Work) -> EvaluationReport:
    """An evaluation that finds each model as good as its file says."""
    ours = _model(inputs.artifact("train"))
    report = _evaluation(spec.month, spec.champion, {"candidate_bpb": ours["bits_per_byte"]})
    report = replace(report, smoke_passed=ours["speaks"])
    if spec.champion is None:
        return report
    theirs = _model(work.store.open(spec.champion.uri))["bits_per_byte"]
    difference = ours["bits_per_byte"] - theirs
    numbers = {"interval_low": difference - 0.01, "interval_high": difference + 0.01}
    return replace(report, champion_bpb=theirs, difference=difference, **numbers)


def _model(training: Artifact) -> dict[str, Any]:
    model: dict[str, Any] = json.loads((training.path / "model" / "config.json").read_text())
    return model


def _evaluation(month: str, champion: Champion | None, changes: dict[str, Any]) -> EvaluationReport:
    report = replace(GOOD, month=month)
    if champion is None:
        nothing: dict[str, Any] = dict.fromkeys(["champion_bpb", "difference", "interval_low", "interval_high"])
        report = replace(report, champion_version=None, champion_month=None, **nothing)
    else:
        report = replace(report, champion_version=champion.version, champion_month=champion.month)
    return replace(report, **changes)
