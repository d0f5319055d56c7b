"""`theta airflow …`: Airflow's own command, in the environment of the stack that `theta up` started."""

import os

import click

from theta_ml.settings import home


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def airflow(arguments: tuple[str, ...]) -> None:
    """Run Airflow's own command against this stack, for example `theta airflow dags list`."""
    from theta_ml.local.layout import Layout
    from theta_ml.local.programs import airflow_command, kept_environment

    environment = kept_environment(Layout(home()), "scheduler")
    if not environment:
        raise click.ClickException(f"no Airflow of ours under {home()}: run `theta up` first")
    command = airflow_command(*arguments)
    os.execvpe(command[0], command, environment)  # noqa: S606  it takes this process's place, with its exit code
