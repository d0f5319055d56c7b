"""The `theta` command: one table from a command's name to the function that runs it, imported when it is called."""

import errno
import sys
from importlib import import_module

import click

COMMANDS = {
    "up": ("theta_ml.local.commands:up", "Start everything on this machine."),
    "down": ("theta_ml.local.commands:down", "End everything that `theta up` started."),
    "status": ("theta_ml.local.commands:status", "What is running, where, and how to log in."),
    "logs": ("theta_ml.local.commands:logs", "Show a service's log."),
    "import": ("theta_ml.landing.commands:import_", "Land conversations from JSONL files."),
    "export": ("theta_ml.landing.commands:export", "Write conversations as JSONL, redacted."),
    "simulate": ("theta_ml.landing.commands:simulate", "Land months of plausible conversations, for a demo."),
    "quarantine": ("theta_ml.landing.commands:quarantine", "What snapshots set aside, and why."),
    "landing": ("theta_ml.landing.month_commands:landing", "Months of the landing zone: list, detach, attach."),
    "data": ("theta_ml.corpus.commands:data", "What a corpus is made of: list, add, show, count."),
    "retrain": ("theta_ml.cli.retrain:retrain", "Retrain on a month, through Airflow."),
    "tune": ("theta_ml.cli.tune:tune", "Search hyper-parameters; the best become a recipe."),
    "recipes": ("theta_ml.training.commands:recipes", "The ways there are of making a candidate."),
    "stage": ("theta_ml.cli.stage:stage", "Run one stage of the pipeline by hand."),
    "ledger": ("theta_ml.registry.commands:ledger", "What was decided for each run, and why."),
    "champion": ("theta_ml.registry.commands:champion", "Which model is, or was, in production."),
    "promote": ("theta_ml.registry.override:promote", "Make a version champion by hand."),
    "rollback": ("theta_ml.registry.override:rollback", "Go back to the champion before the present one."),
    "registry": ("theta_ml.registry.upkeep:registry", "Check MLflow against the ledger; remove old versions."),
    "lineage": ("theta_ml.lineage.commands:lineage", "Where a conversation went, and which models learned from it."),
    "erase": ("theta_ml.lineage.commands:erase", "Take a conversation, or a user's, out of everything."),
    "mail": ("theta_ml.notify.commands:mail", "Read what the local mailbox caught; see what waits."),
    "benchmark": ("theta_ml.cli.benchmark:benchmark", "Measure a model on MMLU, GSM8K and others, from local files."),
    "compose": ("theta_ml.compose.commands:compose", "Theta in containers: secrets for docker-compose."),
    "chat": ("theta_ml.serving.commands:chat", "Talk with the champion."),
    "airflow": ("theta_ml.cli.through:airflow", "Airflow's own command, against this stack."),
    "demo": ("theta_ml.cli.demo:demo", "Everything at once: start, simulate, retrain, show."),
    "bench": ("theta_ml.bench:bench", "Measure Theta against a peer."),
}

_NOT_WRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class LazyGroup(click.Group):
    """Imports a command when it is called: `theta --help` must not wait for torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


def _version(ctx: click.Context, parameter: click.Parameter, asked: bool) -> None:
    if not asked or ctx.resilient_parsing:
        return
    from importlib.metadata import version

    from theta_ml.code import code_version

    click.echo(f"theta, version {version('theta-ml')}, code {code_version()}")
    ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version,
    help="Show the version, and a digest of the code, and exit.",
)  # fmt: skip
def theta() -> None:
    """Keep a conversational language model alive in production.

    A first day: `theta up`, `theta simulate`, `theta retrain --month 2026-01 --bootstrap --wait`, `theta ledger`.
    State lives under $THETA_HOME (.theta here, unless you set it).
    """


def main() -> None:
    """Runs `theta`; a fault that has a message for the user is one line, never a traceback."""
    from theta_ml.settings import SettingsError

    try:
        theta()
    except SettingsError as error:
        click.echo(f"theta: {error}", err=True)
        sys.exit(78)  # EX_CONFIG
    except OSError as error:
        if error.errno not in _NOT_WRITABLE:
            raise
        place = f" ({error.filename})" if error.filename else ""
        click.echo(f"theta: cannot write: {error.strerror}{place}; mend that, and run the command again", err=True)
        sys.exit(74)  # EX_IOERR
