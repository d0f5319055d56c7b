"""The newest month that landed."""

from pathlib import Path

import psycopg
import pytest

from theta_ml.landing.months import make_months
from theta_ml.landing.newest import newest_month
from theta_ml.settings import Settings
from theta_ml.stage import StageFailed


def test_the_newest_month_is_the_conversations_own_in_utc(tmp_path: Path, database_url: str) -> None:
    settings = Settings(home=tmp_path, database_url=database_url)  # type: ignore[arg-type]
    with pytest.raises(StageFailed, match="no conversation has landed yet"):
        newest_month(settings)
    with psycopg.connect(database_url) as connection:
        make_months(connection, ["2026-01", "2026-02"])
        for name, instant in (("a", "2026-03-01T00:30:00+02:00"), ("b", "2026-01-15T12:00:00Z")):
            connection.execute(
                "INSERT INTO conversations (conversation_id, source, occurred_at) VALUES (%s, 'x', %s)", [name, instant]
            )
    assert str(newest_month(settings)) == "2026-02"
