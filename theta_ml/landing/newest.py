"""The newest month that landed."""

from theta_ml.landing.database import connect, database_faults
from theta_ml.month import Month
from theta_ml.settings import Settings
from theta_ml.stage import StageFailed


def newest_month(settings: Settings) -> Month:
    """Of the conversations' own time, not the clock's. Raises StageFailed where nothing landed."""
    with database_faults(), connect(settings) as connection:
        row = connection.execute("SELECT max(occurred_at) FROM conversations").fetchone()
    if row is None or row[0] is None:
        raise StageFailed("no conversation has landed yet: `theta import` or `theta simulate` brings some")
    return Month.of(row[0])
