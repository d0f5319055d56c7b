"""Evidence and candidate, put into MLflow: one run for each retraining, one version for each training.

Everything here may run twice: files are overwritten, points and versions that are there are found.
"""

import json
import shutil
import tempfile
from dataclasses import asdict, replace
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from theta_ml.evaluation.report import EvaluationReport
from theta_ml.evaluation.selection import Selection
from theta_ml.evaluation.sentence import says_yes
from theta_ml.evaluation.verdict import Verdict
from theta_ml.registry.aliases import challenge
from theta_ml.registry.champion import KEY, MONTH, URI, registered_model
from theta_ml.registry.evidence import benchmarks_of, candidate_metrics, candidate_params, metrics, params
from theta_ml.registry.ledger import lock_champion, open_ledger
from theta_ml.registry.page import markdown, page
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, StageFailed
from theta_ml.store import DOCUMENT, Artifact, Store
from theta_ml.tracking import (
    candidate_run,
    client,
    end_candidate,
    log_metrics,
    log_params,
    mlflow_answers,
    replay,
    set_tags,
)

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

_REQUIREMENTS = ("torch", "transformers", "tokenizers", "safetensors")
_MANIFESTS = {"snapshot": "manifest.json"}
"""What a stage's document is called in the run, where not STAGE.json."""
_FILES = ("report.html", "evidently.html", "evidently-earlier.html", "history.jsonl")
"""Files of a stage that are evidence; its data stays in the store."""
DATA_DOCS = "data_docs"
"""Folder of Great Expectations' own pages, beside the report."""
VERDICT = "theta.verdict"
"""Tag of a version: the verdict as JSON."""
_LONGEST_TAG = 100_000  # of a version's tag, by MLflow


def publish_evidence(settings: Settings, mlflow_run: str, inputs: Inputs) -> None:
    """Parameters, metrics by step, and each stage's document and report."""
    log_params(settings, mlflow_run, params(inputs))
    if "train" in inputs:
        _publish_history(settings, mlflow_run, inputs.artifact("train"))
    last = inputs.artifact("train").document["value"].get("steps", 0) if "train" in inputs else 0
    measured = metrics(inputs)
    if measured:
        log_metrics(settings, mlflow_run, [{"step": last, **measured}])
    with tempfile.TemporaryDirectory() as folder:
        for stage, artifact in inputs.items():
            _collect(stage, artifact, Path(folder))
        with mlflow_answers(settings):
            client(settings).log_artifacts(mlflow_run, folder)


def publish_candidates(settings: Settings, run_id: str, month: str, selection: Selection, store: Store) -> list[str]:
    """Each candidate's parameters, curves and final numbers, in a run of its own; those runs, in the same order."""
    runs = []
    for candidate in selection.candidates:
        mlflow_run = candidate_run(settings, run_id, month, candidate.recipe)
        train = store.open(candidate.uri)
        log_params(settings, mlflow_run, candidate_params(train))
        set_tags(settings, mlflow_run, {KEY: train.key, "theta.chosen": candidate.uri == selection.train})
        _publish_history(settings, mlflow_run, train)
        last = train.document["value"].get("steps", 0)
        replay(settings, mlflow_run, [{"step": last, **candidate_metrics(candidate, train)}])
        end_candidate(settings, mlflow_run, store.made(train)[1])
        runs.append(mlflow_run)
    return runs


def publish_verdict(
    settings: Settings, mlflow_run: str, verdict: Verdict, inputs: Inputs, pending: bool = False
) -> None:
    """As JSON and as a page on the run; as JSON, table and sentence on the candidate's version.

    `pending` is a yes that has not taken effect: it says that the gate says yes, and not that anybody was promoted.
    """
    outcome = verdict.decision
    if pending:
        outcome = "the gate says yes"
        verdict = replace(verdict, sentence=f"Not promoted yet; {says_yes(verdict.sentence)}")
    text = json.dumps(asdict(verdict), indent=2)
    evaluation = inputs.optional("evaluate", EvaluationReport)
    html = page(verdict, evaluation, benchmarks_of(inputs), outcome)
    mlflow = client(settings)
    with mlflow_answers(settings):
        mlflow.log_text(mlflow_run, text, "verdict/verdict.json")
        mlflow.log_text(mlflow_run, html, "verdict/verdict.html")
        if verdict.candidate_version is not None:
            name, version = settings.registered_model, str(verdict.candidate_version)
            mlflow.update_model_version(name, version, markdown(verdict, outcome))
            if len(text) <= _LONGEST_TAG:
                mlflow.set_model_version_tag(name, version, VERDICT, text)


def register_candidate(settings: Settings, mlflow_run: str, train: Artifact, month: str) -> int:
    """The candidate's version, with the alias `challenger`; where an earlier attempt registered it, that one."""
    source = None if _registered(settings, mlflow_run, train.key) else _publish_model(settings, mlflow_run, train)
    with open_ledger(settings) as ledger, mlflow_answers(settings):
        lock_champion(ledger)  # of two that register at once, the newer version has the alias
        found = _registered(settings, mlflow_run, train.key)
        if found is None:
            _ensure_registered_model(settings)
            found = client(settings).create_model_version(
                settings.registered_model,
                source=source or _publish_model(settings, mlflow_run, train),
                run_id=mlflow_run,
                tags={MONTH: month, KEY: train.key, URI: train.uri},
                await_creation_for=0,
            )
        challenge(settings, int(found.version))
    return int(found.version)


def comparison_url(settings: Settings, *mlflow_runs: str) -> str | None:
    """MLflow's page that shows these runs side by side, or the only one; None where the server has no pages."""
    base = settings.mlflow_pages
    if base is None:
        return None
    experiments = sorted({_experiment(settings, run) for run in mlflow_runs})
    if len(mlflow_runs) == 1:
        return f"{base}/#/experiments/{experiments[0]}/runs/{mlflow_runs[0]}"
    runs = quote(json.dumps(mlflow_runs, separators=(",", ":")))
    return f"{base}/#/compare-runs?runs={runs}&experiments={quote(json.dumps(experiments, separators=(',', ':')))}"


def _experiment(settings: Settings, mlflow_run: str) -> str:
    with mlflow_answers(settings):
        return str(client(settings).get_run(mlflow_run).info.experiment_id)


def _publish_history(settings: Settings, mlflow_run: str, train: Artifact) -> None:
    history = train.path / "history.jsonl"
    if not history.exists():
        raise StageFailed(f"{train.uri} has no history.jsonl; clear `train`")
    rows: list[dict[str, Any]] = [json.loads(line) for line in history.read_text().splitlines() if line.strip()]
    replay(settings, mlflow_run, rows)


def _collect(stage: str, artifact: Artifact, folder: Path) -> None:
    place = folder / stage
    place.mkdir()
    shutil.copyfile(artifact.path / DOCUMENT, place / _MANIFESTS.get(stage, f"{stage}.json"))
    for name in _FILES:
        if (artifact.path / name).exists():
            shutil.copyfile(artifact.path / name, place / name)
    if (artifact.path / DATA_DOCS).is_dir():
        shutil.copytree(artifact.path / DATA_DOCS, place / DATA_DOCS)


def _publish_model(settings: Settings, mlflow_run: str, train: Artifact) -> str:
    """Uploads the model in MLflow's form; its URI. A path of its own for each training: a version never changes."""
    import mlflow.pyfunc

    place = f"model-{train.key[:8]}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        mlflow.pyfunc.save_model(
            path=path,
            python_model=str(Path(__file__).with_name("text_model.py")),
            artifacts={"model": str(train.path / "model")},
            pip_requirements=[f"{package}=={installed(package)}" for package in _REQUIREMENTS],
        )
        client(settings).log_artifacts(mlflow_run, str(path), place)
    return f"runs:/{mlflow_run}/{place}"


def _registered(settings: Settings, mlflow_run: str, key: str) -> "ModelVersion | None":
    versions = client(settings).search_model_versions(
        f"name = '{settings.registered_model}' and run_id = '{mlflow_run}'"
    )
    return next((version for version in versions if version.tags.get(KEY) == key), None)


def _ensure_registered_model(settings: Settings) -> None:
    from mlflow.exceptions import MlflowException

    if registered_model(settings) is not None:
        return
    try:
        client(settings).create_registered_model(settings.registered_model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
