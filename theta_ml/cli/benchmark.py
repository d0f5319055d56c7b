"""`theta benchmark`: measure a model on the benchmarks of lm-evaluation-harness, by hand."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from theta_ml.evaluation.benchmarks.report import BenchmarkReport, BenchmarkResult
    from theta_ml.settings import Settings


@click.command()
@click.option("--model", default="champion", show_default=True, metavar="WHICH",
              help="`champion`, a version's number, or a model's folder.")  # fmt: skip
@click.option("--only", default="", metavar="NAMES", help="mmlu, gpqa, math, humaneval, gsm8k; separated by commas.")
@click.option("--limit", default=100, show_default=True, help="Items of each, always the same ones; 0 takes all.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def benchmark(model: str, only: str, limit: int, as_json: bool) -> None:
    """Measure a model on MMLU, GPQA, MATH, HumanEval and GSM8K, from the files in THETA_BENCHMARKS.

    Which files and what they hold: docs of `theta_ml.evaluation.benchmarks.stage`. HumanEval runs what the model wrote:
    only where THETA_RUN_GENERATED_CODE is set, and only in a sandbox.

    \b
    theta benchmark --only mmlu,gsm8k --limit 200
    """
    from theta_ml.evaluation.benchmarks.stage import BenchmarkSpec, examine, resolve
    from theta_ml.events import Events
    from theta_ml.settings import load_settings
    from theta_ml.stage import Inputs, StageFailed, StageRetry, StageSkipped
    from theta_ml.store import ArtifactMissing

    settings = load_settings()
    try:
        spec = resolve(BenchmarkSpec("", only=only, limit=limit), Inputs(), settings, "")
        with Events("benchmark") as events:
            report = examine(spec, {"candidate": _folder(model, settings)}, events)
    except (StageSkipped, StageFailed, StageRetry, ArtifactMissing, ValueError) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps(asdict(report), indent=2))
    else:
        _print(report)


def _folder(model: str, settings: "Settings") -> Path:
    """Raises StageFailed, ArtifactMissing, and ClickException for what names no model."""
    from theta_ml.registry.champion import at_version, current
    from theta_ml.store import Store

    if model != "champion" and not model.isdecimal():
        folder = next(
            (place for place in (Path(model), Path(model) / "model") if (place / "config.json").exists()), None
        )
        if folder is None:
            raise click.ClickException(f"--model {model}: neither `champion`, nor a version, nor a model's folder")
        return folder
    named = current(settings) if model == "champion" else at_version(settings, int(model))
    if named is None:
        raise click.ClickException("no champion yet: `theta retrain --month YYYY-MM --bootstrap --wait` makes one")
    return Store(settings.artifacts, settings.home / "cache").open(named.uri).path / "model"


def _print(report: "BenchmarkReport") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for title in ("benchmark", "metric", "value", "guessing", "items", "shots"):
        table.add_column(title, justify="right" if title not in ("benchmark", "metric") else "left")
    for result in report.results:
        table.add_row(result.name, result.metric, *_numbers(result))
    Console().print(table)


def _numbers(result: "BenchmarkResult") -> tuple[str, ...]:
    error = f" ± {result.stderr:.3f}" if result.stderr is not None else ""
    value = "no number" if result.value is None else f"{result.value:.3f}{error}"
    return value, f"{result.chance:.2f}", f"{result.items:,}", f"{result.shots_shown:.1f} of {result.shots}"
