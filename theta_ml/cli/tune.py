"""`theta tune`: search hyper-parameters on a month's corpus, in this process, and write the best as a recipe."""

import json
import sys
import uuid
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import click

from theta_ml.cli.options import month_option

if TYPE_CHECKING:
    from theta_ml.events import Events
    from theta_ml.settings import Settings
    from theta_ml.stage import Stage

BEFORE: dict[str, list[str]] = {
    "snapshot": [],
    "validate": ["snapshot"],
    "drift": ["snapshot"],
    "prepare": ["snapshot", "validate", "drift"],
    "study": ["prepare"],
}
"""What stands before the first trial, and what each takes."""


@click.command()
@click.option("--month", callback=month_option, help="Month whose corpus is trained on, YYYY-MM; default: the newest.")
@click.option("--preset", type=click.Choice(["tiny", "base"]), default="tiny", show_default=True)
@click.option("--recipe", default="continue", show_default=True, help="Whose hyper-parameters are searched.")
@click.option("--sampler", type=click.Choice(["grid", "random", "tpe"]), default="tpe", show_default=True)
@click.option("--pruner", type=click.Choice(["median", "hyperband", "none"]), default="median", show_default=True)
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=10.0, show_default=True,
              help="Training time of all trials together.")  # fmt: skip
@click.option("--trials", type=click.IntRange(min=2), help="Most trials; as many as the minutes hold, where not given.")
@click.option("--space", default="", help="A search space of your own, as theta_ml/tuning/space.yaml.")
@click.option("--run", "run_id", help="Run whose view of the data is taken; by-hand-MONTH where not given.")
@click.option("--new", is_flag=True, help="Begin another study, although the same command began one before.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def tune(month: str | None, run_id: str | None, as_json: bool, **parameters: Any) -> None:
    """Search hyper-parameters, and write the best as a recipe that `theta retrain` takes.

    The recipe as it is comes first; what is better is better than that, on the same validation conversations and
    under the same budget. Ctrl-C, or a crash, costs seconds: the same command goes on with the same study.
    """
    from theta_ml.events import Events
    from theta_ml.landing.newest import newest_month
    from theta_ml.settings import SettingsError, load_settings
    from theta_ml.stage import StageFailed, StageRetry, StageSkipped
    from theta_ml.store import ArtifactMissing
    from theta_ml.training.stop import Stopped

    values = {name: value for name, value in parameters.items() if value is not None}
    try:
        month = month or str(newest_month(load_settings()))
        with Events("tune") as events:
            found = _tune(month, run_id or f"by-hand-{month}", values, load_settings(), events)
    except Stopped:
        click.echo("stopped; the same command goes on with the study", err=True)
        sys.exit(130)
    except (StageFailed, StageRetry, StageSkipped, ArtifactMissing, SettingsError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(json.dumps(found, indent=2) if as_json else found["sentence"])


def _tune(month: str, run_id: str, values: dict[str, Any], settings: "Settings", events: "Events") -> dict[str, Any]:
    """What the stage `winner` says of the study, once its budget is spent."""
    from theta_ml.cli.stage import load_stage
    from theta_ml.stage import Inputs, StageSkipped, run_stage
    from theta_ml.store import Store
    from theta_ml.tuning.trial import Tuning
    from theta_ml.tuning.winner import find_winner

    stages = {name: load_stage(name) for name in BEFORE}
    specs = {name: _spec(stage, month, values) for name, stage in stages.items()}  # all faults before any work
    uris: dict[str, str] = {}
    for name, takes in BEFORE.items():
        run = f"{run_id}/{uuid.uuid4().hex[:8]}" if name == "study" and values["new"] else run_id
        inputs = [uris[each] for each in takes]
        uris[name] = run_stage(stages[name], specs[name], inputs, run, settings, events).uri
    store = Store(settings.artifacts, settings.home / "cache")
    opened = Inputs({name: store.open(uris[name]) for name in ("prepare", "study")})
    tuning = Tuning.of(opened, run_id, settings, store, events)
    while True:
        try:
            tuning.next_trial()
        except StageSkipped as over:
            events.log(str(over))
            return asdict(find_winner(tuning))


def _spec(stage: "Stage[Any]", month: str, values: dict[str, Any]) -> Any:
    """Of the command's options, those that the stage knows."""
    from theta_ml.stage import parse_spec

    known = {field.name for field in fields(stage.spec)}
    return parse_spec(stage, {"month": month} | {name: value for name, value in values.items() if name in known})
