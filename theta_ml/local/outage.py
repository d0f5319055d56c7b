"""Airflow is dead and no restart helps: one mail, sent from here, for nothing that Airflow runs can say so.

It goes through the outbox, and what waits there leaves with it; where the database is away too, it goes by itself.
"""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from theta_ml.landing.database import connect, database_faults
from theta_ml.local.airflow_api import mail_connection
from theta_ml.local.layout import Layout, read_json, write_json
from theta_ml.local.plan import repository
from theta_ml.local.workers import QUEUES
from theta_ml.mail.letter import Letter, Line, compose
from theta_ml.mail.message import Link, Message
from theta_ml.mail.outbox import enqueue
from theta_ml.settings import Settings, SettingsError, load_settings
from theta_ml.stage import StageRetry
from theta_ml.watch.overdue import tell_overdue

log = logging.getLogger("watchdog")

RECOVERED = 60.0
"""Seconds that everything must have been well until an outage is over: what dies again and again is not."""

RETRY = 120.0
"""Seconds between two attempts to be heard, and to carry what waits."""

PATIENCE = 120.0
"""Seconds that the child has which carries mail."""

DEAD_WITHOUT = ("scheduler", "api-server", "dag-processor", *QUEUES)
"""Where one of these does not work nothing new is done. Without the triggerer what runs goes on."""

Post = Callable[[Layout, Settings, Message | None], bool]


@dataclass(frozen=True)
class Outage:
    """Kept in a file: whoever watches may be started anew meanwhile. Times are in seconds since the epoch."""

    since: float
    told: bool = False
    """A mail has left, or waits in the outbox."""
    tried: float = 0.0
    well_since: float | None = None


class Watch:
    """Is told of each round's faults."""

    def __init__(self, layout: Layout, post: Post | None = None) -> None:
        self._layout, self._post = layout, post or carry
        self._file = layout.outage
        self._settings: Settings | None = None
        """The last good ones: they may be at fault just when Airflow is dead."""
        self._broken = ""
        self._read_settings()

    def note(self, faults: Mapping[str, str], now: float) -> None:
        """`faults`: what is wrong, by service of Airflow's; empty where all is well."""
        before = self._outage()
        if not faults.keys() & set(DEAD_WITHOUT):
            if before:
                self._end(before, now)
            return
        outage = replace(before or Outage(now), well_since=None)
        if outage != before:
            self._keep(outage)
        settings = self._read_settings()
        if settings and now - outage.since >= settings.outage_minutes * 60 and now - outage.tried >= RETRY:
            self._tell(replace(outage, tried=now), faults, settings)

    def _read_settings(self) -> Settings | None:
        """What the settings are, or were when they last made sense; None where they never did."""
        try:
            self._settings, self._broken = load_settings(), ""
        except SettingsError as error:
            if str(error) != self._broken:
                log.warning("going on with the last good settings: %s", error)
            self._broken = str(error)
        return self._settings

    def _tell(self, outage: Outage, faults: Mapping[str, str], settings: Settings) -> None:
        """The outage's own mail first, kept as told before anything else is tried: there is one an outage."""
        told = outage.told or self._told(_message(outage, faults, settings), settings)
        self._keep(replace(outage, told=told))
        if _tell_overdue(settings) and not self._broken:
            self._post(self._layout, settings, None)

    def _told(self, message: Message, settings: Settings) -> bool:
        """Whether the mail has left, or waits where it is safe. Who carries what waits reads the settings anew."""
        if not self._broken and _queue(message, settings):
            return True
        return self._post(self._layout, settings, message)

    def _end(self, outage: Outage, now: float) -> None:
        if outage.well_since is None:
            self._keep(replace(outage, well_since=now))
        elif now - outage.well_since >= RECOVERED:
            self._over(now - outage.since)

    def _over(self, seconds: float) -> None:
        log.warning("Airflow is well again; it was not for %.0f s", seconds)
        self._file.unlink()

    def _outage(self) -> Outage | None:
        kept = read_json(self._file)
        return Outage(**kept) if kept else None

    def _keep(self, outage: Outage) -> None:
        write_json(self._file, asdict(outage))


def _queue(message: Message, settings: Settings) -> bool:
    """Whether there is an outbox to wait in."""
    try:
        with database_faults(), connect(settings) as connection:
            enqueue(connection, message, run_id="", month="", kind="outage")
    except (StageRetry, SettingsError) as error:
        log.warning("Airflow is dead, and so is the outbox: %s", error)
        return False
    return True


def _tell_overdue(settings: Settings) -> bool:
    """Whether the outbox could be looked into."""
    try:
        for month in tell_overdue(settings):
            log.warning("%s is overdue: a mail says so", month)
    except (StageRetry, SettingsError) as error:
        log.warning("whether a month is overdue cannot be told: %s", error)
        return False
    return True


def _message(outage: Outage, faults: Mapping[str, str], settings: Settings) -> Message:
    since = datetime.fromtimestamp(outage.since, UTC)
    dead = " and ".join(name for name in DEAD_WITHOUT if name in faults)
    letter = Letter(
        month="",
        outcome="Airflow is dead",
        headline=f"since {since:%Y-%m-%d %H:%M} UTC",
        tone="bad",
        sentence=(
            f"Airflow has not worked since {since:%Y-%m-%d %H:%M} UTC: no working {dead}, and restarts did not help. "
            "Nothing is trained, decided or promoted until it works. The champion serves on."
        ),
        links=[Link("Airflow", settings.airflow)],
        footer=f"On {os.uname().nodename}, THETA_HOME {settings.home}. `theta status` and `theta logs SERVICE` say "
        "more; `theta down` and `theta up` start it anew. One mail an outage.",
        lines=[Line(name, "unwell", "", False, fault) for name, fault in sorted(faults.items())],
    )
    return compose(letter, settings, "outage", str(settings.home), since.isoformat())


def carry(layout: Layout, settings: Settings, message: Message | None) -> bool:
    """Runs the child that carries mail through Airflow's SMTP provider: this message by itself, or, without one, what
    waits in the outbox. Whether all went well."""
    command = [sys.executable, "-m", "theta_airflow.post", *(["--direct"] if message else [])]
    text = json.dumps(asdict(message)) if message else ""
    try:
        child = subprocess.run(
            command,
            input=text,
            env=_environment(layout, settings),
            text=True,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        log.warning("the mail's child had not ended after %.0f s", PATIENCE)
        return False
    for line in child.stderr.splitlines()[-3:]:
        log.warning("%s", line)
    return child.returncode == 0


def _environment(layout: Layout, settings: Settings) -> dict[str, str]:
    """This process's, with the provider's connection; neither Airflow's configuration nor its database."""
    password = settings.smtp_password
    server = settings.model_dump(include={"smtp_host", "smtp_port", "smtp_user", "smtp_security"})
    known = mail_connection(server | {"smtp_password": password.get_secret_value() if password else None})
    connection = {name: value for name, value in known.items() if name != "connection_id" and value is not None}
    folders = (str(Path(repository()) / "plugins"), str(repository()), os.environ.get("PYTHONPATH", ""))
    return {
        **os.environ,
        "THETA_HOME": str(layout.home),
        "PYTHONPATH": os.pathsep.join(filter(None, folders)),
        "AIRFLOW_HOME": str(layout.airflow),
        "AIRFLOW_CONN_SMTP_DEFAULT": json.dumps(connection),
    }
