"""What the stages found, gathered from their artifacts."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from theta_ml.evaluation.gate import Evidence, Preflight
from theta_ml.evaluation.report import EvaluationReport
from theta_ml.evaluation.selection import Candidate, Selection
from theta_ml.stage import Inputs
from theta_ml.store import Artifact
from theta_ml.training.recipe import Recipe

if TYPE_CHECKING:
    from theta_ml.evaluation.benchmarks.report import BenchmarkReport

HEADLINE = (
    "conversations",
    "candidate_bpb",
    "champion_bpb",
    "difference",
    "interval_low",
    "interval_high",
    "perplexity",
)
"""Numbers of an evaluation that the ledger and MLflow carry under these names."""

_LONGEST = 250  # what is longer is prose or a query, no parameter; the artifact's own document has it

_ELSEWHERE = {"month", "sentence", *HEADLINE[1:]}  # the run's name, its reports, its metrics


def gather(inputs: Inputs, **rest: Any) -> Evidence:
    """The gate's evidence from whatever stages ran; `rest` is what no artifact says."""
    from theta_ml.landing.snapshot import Snapshot
    from theta_ml.quality.comparing import DriftReport
    from theta_ml.quality.validate import ValidationReport

    return Evidence(
        snapshot=inputs.optional("snapshot", Snapshot),
        validation=inputs.optional("validate", ValidationReport),
        drift=inputs.optional("drift", DriftReport),
        preflight=inputs.optional("preflight", Preflight),
        selection=inputs.optional("select", Selection),
        evaluation=inputs.optional("evaluate", EvaluationReport),
        benchmarks=benchmarks_of(inputs),
        **rest,
    )


def benchmarks_of(inputs: Inputs) -> "BenchmarkReport | None":
    """None where there are none to measure with."""
    from theta_ml.evaluation.benchmarks.report import BenchmarkReport

    return inputs.optional("benchmark", BenchmarkReport)


def metrics(inputs: Inputs) -> dict[str, float | int | None]:
    """The numbers of evaluation, benchmarks and profile, by the names that MLflow carries them under."""
    found: dict[str, float | int | None] = {}
    if evaluation := inputs.optional("evaluate", EvaluationReport):
        found |= numbers(evaluation) | _of_evaluation(evaluation)
    if benchmarks := benchmarks_of(inputs):
        from theta_ml.evaluation.benchmarks.report import metrics as of_benchmarks

        found |= of_benchmarks(benchmarks)
    if "profile" in inputs:
        from theta_ml.quality.profile import Profile
        from theta_ml.quality.profile import metrics as of_profile

        found |= of_profile(inputs.noun("profile", Profile))
    return found


def _of_evaluation(report: EvaluationReport) -> dict[str, float | int | None]:
    """What it has beside the headline: `token_accuracy`, `guardrails.latency_ms`, …"""
    names = ("champion_perplexity", "token_accuracy", "champion_token_accuracy")
    found = {name: getattr(report, name) for name in names}
    for part in ("generation", "preference", "guardrails"):
        values = getattr(report, part)
        found |= {f"{part}.{name}": value for name, value in (asdict(values) if values else {}).items()}
    if report.golden:
        found |= {"golden.items": len(report.golden), "golden.passed": sum(each.passed for each in report.golden)}
    return found


def numbers(evaluation: EvaluationReport | None) -> dict[str, float | int | None]:
    return {name: getattr(evaluation, name) if evaluation else None for name in HEADLINE}


def params(inputs: Inputs) -> dict[str, str | float]:
    """The scalars of every stage's spec and of what it made, as `stage.field`: the run's parameters."""
    found: dict[str, str | float] = {"train.key": inputs.artifact("train").key} if "train" in inputs else {}
    for stage, artifact in inputs.items():
        for part in ("spec", "value"):
            found |= dict(_scalars(stage, artifact.document[part]))
    return found


def candidate_params(train: Artifact) -> dict[str, str | float]:
    """What tells one candidate from another: its recipe, and each hyper-parameter as it trained with, whoever chose
    it."""
    spec = train.document["spec"]
    recipe = TypeAdapter(Recipe).validate_python(spec["recipe"])
    preset = recipe.preset_of(spec["preset"])
    told = {name: spec[name] for name in ("epochs", "max_steps", "rate", "seed") if spec[name] is not None}
    parts: dict[str, dict[str, Any]] = {
        "shape": recipe.shape,
        "corpus": recipe.corpus.chosen(),
        "adapters": asdict(recipe.adapters) if recipe.adapters else {},
        "hyper": {**asdict(preset.hyper), **told},
    }
    found = {"recipe": recipe.name, "method": recipe.method, "preset": preset.name, "base": recipe.base}
    found |= {"teacher": recipe.teacher} if recipe.method == "distill" else {}
    found |= {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}
    found["start"] = train.document["value"]["start"]
    return {name: value for name, value in found.items() if value is not None}


def candidate_metrics(candidate: Candidate, train: Artifact) -> dict[str, float | int | None]:
    """What is left of a candidate's curves at their end, and what `select` measured."""
    model = train.document["value"]
    return {
        "validation_bits_per_byte": candidate.bits_per_byte,
        "best_validation_loss": model["validation_loss"],
        "last_train_loss": model["train_loss"],
        "best_step": model["best_step"],
        "parameters": candidate.parameters,
    }


def _scalars(stage: str, values: dict[str, Any]) -> Iterator[tuple[str, str | float]]:
    for name, value in values.items():
        if name in _ELSEWHERE or not isinstance(value, str | int | float) or len(str(value)) > _LONGEST:
            continue
        yield f"{stage}.{name}", value
