"""`theta stage NAME`: what an Airflow task runs, and a person by hand.

Exit codes: 0 done, 65 trying again would not help, 75 try again, 78 a setting is wrong, 99 nothing to do (skipped).
Anything else is a crash.
"""

import ast
import inspect
import json
import os
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import MISSING, fields, replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import click

from theta_ml.cli.options import month_option
from theta_ml.code import code_version
from theta_ml.events import EVENTS_FD, STANDARD_OUTPUT, Events
from theta_ml.settings import Settings, SettingsError, load_settings
from theta_ml.stage import Result, Stage, StageFailed, StageRetry, StageSkipped, parse_spec, run_stage
from theta_ml.store import ArtifactMissing

STAGES = {
    "extract": ("theta_ml.landing.extract", "Make a shard of a snapshot beforehand; snapshot merges all of them."),
    "snapshot": ("theta_ml.landing.snapshot", "Freeze what the month's run sees of the landing zone."),
    "validate": ("theta_ml.quality.validate", "Judge the month's data with Great Expectations."),
    "profile": ("theta_ml.quality.profile", "Describe the month's data."),
    "drift": ("theta_ml.quality.drift", "Compare the month with the one before, with Evidently."),
    "tokenizer": ("theta_ml.corpus.tokenizer_stage", "Make the corpus' tokenizer, before its shards are encoded."),
    "spool": ("theta_ml.corpus.spool_stage", "Clean and encode a shard of the corpus beforehand; prepare packs them."),
    "prepare": ("theta_ml.corpus.prepare", "Clean, tokenise and pack the training corpus."),
    "preflight": ("theta_ml.training.preflight", "Is it learnable, and do memory, disk and time suffice?"),
    "train": ("theta_ml.training.train", "Train the candidate."),
    "select": ("theta_ml.evaluation.select", "Choose the best of the candidates."),
    "benchmark": ("theta_ml.evaluation.benchmarks.stage", "Measure candidate and champion on MMLU, GSM8K and others."),
    "evaluate": ("theta_ml.evaluation.evaluate", "Score candidate and champion on the same conversations."),
    "decide": ("theta_ml.registry.decide", "Put the numbers through the gate and register the candidate."),
    "ask": ("theta_ml.notify.ask", "Tell the engineers that an approval is wanted."),
    "promote": ("theta_ml.registry.promote", "Make the candidate champion."),
    "decline": ("theta_ml.registry.decline", "Record that a person, or nobody in time, said no to a yes of the gate."),
    "notify": ("theta_ml.notify.notify", "Write to the engineers where an outcome needs them."),
    "monitor": ("theta_ml.watch.monitor", "Is it time to retrain before the month is over?"),
    "detach": ("theta_ml.landing.retention", "Detach months that the landing zone no longer keeps."),
    "retain": ("theta_ml.registry.retain", "Remove old versions, with their files."),
    "overdue": ("theta_ml.watch.overdue", "Tell the engineers of months without a decision."),
    "study": ("theta_ml.tuning.study", "Begin a search of hyper-parameters, or go on with it."),
    "trial": ("theta_ml.tuning.trial", "Train one trial of the study."),
    "winner": ("theta_ml.tuning.winner", "Write the study's best trial as a recipe."),
}
EXIT_FAILED, EXIT_RETRY, EXIT_CONFIG, EXIT_SKIPPED = 65, 75, 78, 99


def load_stage(name: str) -> Stage[Any]:
    """The stage's row, its champion filled in from the registry where its spec asks for one, and what the corpus'
    stages read of a recipe from the recipe."""
    stage: Stage[Any] = import_module(STAGES[name][0]).STAGE
    if name in ("tokenizer", "spool", "prepare"):
        stage = replace(stage, resolve=_with_recipe(stage.resolve))
    if any(field.name == "champion" for field in fields(stage.spec)):
        return replace(stage, resolve=_with_champion(stage.resolve))
    return stage


def _with_champion(inner: Callable[..., Any] | None) -> Callable[..., Any]:
    from theta_ml.registry.champion import resolve_champion

    def resolve(spec: Any, inputs: Any, settings: Settings, run_id: str) -> Any:
        spec = resolve_champion(spec, inputs, settings, run_id)
        return inner(spec, inputs, settings, run_id) if inner else spec

    return resolve


def _with_recipe(inner: Callable[..., Any] | None) -> Callable[..., Any]:
    from theta_ml.training.resolving import for_corpus

    def resolve(spec: Any, inputs: Any, settings: Settings, run_id: str) -> Any:
        spec = for_corpus(spec, settings)
        return inner(spec, inputs, settings, run_id) if inner else spec

    return resolve


def _stages_help() -> str:
    width = max(map(len, STAGES))
    rows = "\n".join(f"  {name:<{width}}  {summary}" for name, (_, summary) in STAGES.items())
    return (
        f"\b\nStages, in order:\n{rows}\n\n\b\nExit codes: 0 done, 65 failed, 75 try again, 78 a setting, 99 skipped."
    )


@click.command(epilog=_stages_help())
@click.argument("name", type=click.Choice(list(STAGES)), metavar="NAME")
@click.option("--month", callback=month_option, help="Month of the run, YYYY-MM.  [required]")
@click.option(
    "--run", "run_id", help="Name of the run it belongs to; by-hand-MONTH where not given. A run keeps its view."
)
@click.option("--input", "inputs", multiple=True, metavar="URI", help="An earlier stage's artifact; once for each.")
@click.option("--set", "values", multiple=True, metavar="FIELD=VALUE", help="A parameter of the stage; once for each.")
@click.option("--parameters", is_flag=True, help="List the stage's parameters and leave.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def stage(
    name: str,
    month: str | None,
    run_id: str | None,
    inputs: tuple[str, ...],
    values: tuple[str, ...],
    parameters: bool,
    as_json: bool,
) -> None:
    """Run one stage; prints the URI of what it made, to be another stage's --input.

    \b
    theta stage snapshot --month 2026-02
    theta stage validate --month 2026-02 --input URI
    """
    _end_with_our_parent()
    signal.signal(signal.SIGTERM, _terminate)
    if parameters:
        _print_parameters(load_stage(name))
        return
    if month is None:
        raise click.UsageError("which month? pass --month YYYY-MM")
    with Events(name) as events:
        result = _run(name, month, run_id or f"by-hand-{month}", list(inputs), values, events)
    click.echo(json.dumps(vars(result)) if as_json else result.uri)


def _run(name: str, month: str, run_id: str, uris: list[str], values: tuple[str, ...], events: Events) -> Result:
    started = time.time()
    try:
        settings = load_settings()
        _require_code(settings)
        _require_files(settings)
        row = load_stage(name)
        spec = parse_spec(row, {"month": month, **dict(_assignment(value) for value in values)})
        result = run_stage(row, spec, uris, run_id, settings, events, started)
    except tuple(_OUTCOMES) as outcome:
        kind, code = next(_OUTCOMES[known] for known in _OUTCOMES if isinstance(outcome, known))
        events.error(kind, str(outcome))
        click.echo(f"theta stage {name}: {outcome}", err=True)
        sys.exit(code)
    events.result(result.uri, result.key, result.cached)
    return result


_OUTCOMES: dict[type[Exception], tuple[str, int]] = {
    StageSkipped: ("skipped", EXIT_SKIPPED),
    StageRetry: ("retry", EXIT_RETRY),
    StageFailed: ("failed", EXIT_FAILED),
    ArtifactMissing: ("failed", EXIT_FAILED),
    SettingsError: ("setting", EXIT_CONFIG),
}


def _require_code(settings: Settings) -> None:
    """Raises SettingsError where the caller has another Theta than this one."""
    if settings.code not in (None, code_version()):
        raise SettingsError(
            f"this image has code {code_version()}, and Airflow's worker, which called it, {settings.code}: set "
            f"THETA_IMAGE to the image of that version (`theta --version` tells it)"
        )


OF_PODS = ("gate", "recipes", "benchmarks")
"""Settings that name files, and that stages read which run in pods."""


def _require_files(settings: Settings) -> None:
    """In a pod. Raises SettingsError where it lacks what a worker's settings name: before a training, not after it."""
    for name in OF_PODS if settings.code else ():
        path: Path | None = getattr(settings, name)
        if path is not None and not path.exists():
            raise SettingsError(
                f"THETA_{name.upper()} is {path}, which is not in this pod: put it into the image, or into a volume "
                f"that THETA_POD_TEMPLATE mounts there"
            )


def _assignment(text: str) -> tuple[str, str]:
    field, equals, value = text.partition("=")
    if not equals:
        raise StageFailed(f"--set takes FIELD=VALUE, got {text!r}")
    return field, value


def _print_parameters(row: Stage[Any]) -> None:
    meanings = _meanings(row.spec)
    for field in fields(row.spec):
        required = field.default is MISSING and field.default_factory is MISSING
        default = "(required)" if required else "" if field.default is MISSING else f"= {field.default!r}"
        click.echo(f"{field.name} {default}".rstrip())
        click.echo(textwrap.indent(textwrap.fill(meanings.get(field.name, ""), 100), "    "))


def _meanings(spec: type[Any]) -> dict[str, str]:
    """Field → the docstring under it, those of the spec that it builds on first."""
    (described,) = ast.parse(inspect.getsource(spec)).body
    assert isinstance(described, ast.ClassDef)
    inherited = {name: text for base in spec.__bases__ if base is not object for name, text in _meanings(base).items()}
    return inherited | {
        field.target.id: " ".join(str(text.value.value).split())
        for field, text in pairwise(described.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    }


def _terminate(number: int, frame: FrameType | None) -> None:
    # As an exception, so that half-written artifacts are cleared away on the way out.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: the group and the operator both send it
    sys.exit(128 + number)


def _end_with_our_parent() -> None:
    """Under an operator, stdin is a pipe whose end says that the operator is gone: then this process must go too."""
    if os.environ.get(EVENTS_FD, STANDARD_OUTPUT) == STANDARD_OUTPUT:
        return

    def watch() -> None:
        while os.read(0, 1024):  # not sys.stdin: its lock, held here, would abort the interpreter's own exit
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(GRACE_SECONDS)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


GRACE_SECONDS = 5
