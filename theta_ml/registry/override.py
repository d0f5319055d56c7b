"""`theta promote` and `theta rollback`: a person's word against, or without, the gate."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import reduce
from typing import TYPE_CHECKING, Any

import click

from theta_ml.person import person
from theta_ml.registry.commands import Instant, told
from theta_ml.settings import load_settings

if TYPE_CHECKING:
    from theta_ml.registry.by_hand import Word

_OPTIONS = (
    click.option("--reason", required=True, metavar="TEXT", help="Why; the ledger keeps it."),
    click.option("--until", type=Instant(), help="No run replaces it before; default: 30 days from now."),
    click.option("--actor", metavar="NAME", help="On whose word; default: the user who is logged in here."),
    click.option("--json", "as_json", is_flag=True, help="Print the ledger's row as JSON."),
)


def _word(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say on whose word, why, and until when."""
    return reduce(lambda inner, option: option(inner), reversed(_OPTIONS), command)


@click.command()
@click.argument("version", type=click.IntRange(min=1))
@_word
def promote(version: int, reason: str, until: datetime | None, actor: str | None, as_json: bool) -> None:
    """Make VERSION champion by hand, whatever the gate said of it.

    Until the override expires, runs are evaluated and recorded and promote nothing. Naming the champion keeps it for
    so long. `theta ledger` shows the versions.

    \b
    theta promote 3 --reason "4 answers in French"
    theta promote 3 --reason "4 answers in French" --until 2026-04-30
    """
    from theta_ml.registry import by_hand

    with _refused():
        told(by_hand.promote(load_settings(), version, _of(actor, reason, until)), as_json)


@click.command()
@_word
def rollback(reason: str, until: datetime | None, actor: str | None, as_json: bool) -> None:
    """Go back to the champion before the present one; twice goes back by two.

    Until the override expires, runs are evaluated and recorded and promote nothing.

    \b
    theta rollback --reason "answers in French since this morning"
    """
    from theta_ml.registry import by_hand

    with _refused():
        told(by_hand.roll_back(load_settings(), _of(actor, reason, until)), as_json)


def _of(actor: str | None, reason: str, until: datetime | None) -> "Word":
    from theta_ml.registry.by_hand import Word

    return Word(person() if actor is None else actor, reason, until)


@contextmanager
def _refused() -> Iterator[None]:
    """One line, not a traceback."""
    from theta_ml.registry.by_hand import Refused
    from theta_ml.stage import StageFailed, StageRetry

    try:
        yield
    except Refused as error:
        raise click.ClickException(f"{error}; nothing was changed") from None
    except StageRetry as error:
        raise click.ClickException(f"{error}; then run the same command again") from None
    except StageFailed as error:
        raise click.ClickException(str(error)) from None
