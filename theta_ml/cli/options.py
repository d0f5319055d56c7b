"""Options that several commands share."""

import click

from theta_ml.month import Month


def month_option(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Callback of an option that takes a month; an error that shows how to write one otherwise."""
    if value is None:
        return None
    try:
        return str(Month.parse(value))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
