"""Optuna's tables, in Theta's database, in a schema of their own."""

import logging
import warnings
from typing import TYPE_CHECKING

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from theta_ml.landing.database import connect, connect_url, database_faults
from theta_ml.settings import Settings
from theta_ml.tuning.budget import SECONDS

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

SCHEMA = "tuning"
HEARTBEAT_SECONDS = 5
GRACE_SECONDS = 30
"""A trial on another machine that was silent for so long is dead."""
RETRIES = 3
"""Times that a trial which was killed is begun again."""
MACHINE = "machine"
"""User attribute of a trial: where it runs."""
_TABLES_LOCK = 0x7468657461_05  # beside the numbers of theta_ml.landing.locks


def open_storage(settings: Settings) -> "RDBStorage":
    """The storage, its tables made where they are missing. Raises DatabaseUnreachable and SettingsError.

    Connections are made by psycopg itself, so that every form of URL that Theta takes serves here too.
    """
    import optuna

    optuna.logging.disable_default_handler()  # what happens is told by our own events
    logging.getLogger("optuna").addHandler(logging.NullHandler())
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    url = _in_schema(settings.require_database())
    with database_faults(), connect(settings) as connection:
        _require_schema(connection)
        # Two that make the tables at once would fail one another.
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_TABLES_LOCK])
        return optuna.storages.RDBStorage(
            "postgresql+psycopg://",
            engine_kwargs={"creator": lambda: connect_url(url), "pool_size": 4, "pool_pre_ping": True},
            heartbeat_interval=HEARTBEAT_SECONDS,
            grace_period=GRACE_SECONDS,
            heartbeat_stale_trial_callback=again,
        )


def again(study: "Study", trial: "FrozenTrial") -> None:
    """Lets a trial that was cut short wait for another attempt, at the same point, with what it had reported."""
    from optuna.storages import RetryHeartbeatStaleTrialCallback

    trial.user_attrs = {name: value for name, value in trial.user_attrs.items() if name not in (MACHINE, SECONDS)}
    RetryHeartbeatStaleTrialCallback(max_retry=RETRIES, inherit_intermediate_values=True)(study, trial)


def _in_schema(url: str) -> str:
    options = conninfo_to_dict(url).get("options") or ""
    return make_conninfo(url, options=f"{options} -c search_path={SCHEMA}".strip())


def _require_schema(connection: psycopg.Connection) -> None:
    if connection.execute("SELECT to_regnamespace(%s)", [SCHEMA]).fetchone() == (None,):
        raise psycopg.errors.UndefinedTable(f"no schema {SCHEMA}")
