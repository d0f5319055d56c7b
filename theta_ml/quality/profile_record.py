"""A month's numbers in the tables that dashboards read."""

from itertools import pairwise

from theta_ml.landing.database import connect, database_faults
from theta_ml.quality.digest import Description
from theta_ml.stage import Work


def record(work: Work, description: Description) -> None:
    """One profile, all of it or nothing; recorded before, it stays as it is. Where no database is set, by hand, the
    files are all there is. Raises DatabaseUnreachable."""
    if work.settings.database_url is None:
        work.events.log("no database is set: the numbers are in profile.json only")
        return
    with database_faults(), connect(work.settings) as connection:
        counts = (int(description.statistics[name]) for name in ("conversations", "messages"))
        new = connection.execute(
            "INSERT INTO month_profiles (profile_key, month, run_id, conversations, messages)"
            " VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING profile_key",
            [work.key, description.month, work.run_id, *counts],
        ).fetchone()
        if new is None:
            return
        cursor = connection.cursor()
        for kind, numbers in (("statistic", description.statistics), ("indicator", description.indicators)):
            cursor.executemany(
                "INSERT INTO month_statistics (profile_key, name, kind, value) VALUES (%s, %s, %s, %s)",
                [(work.key, name, kind, value) for name, value in numbers.items()],
            )
        cursor.executemany(
            "INSERT INTO month_categories (profile_key, kind, name, conversations) VALUES (%s, %s, %s, %s)",
            [
                (work.key, kind, name, count)
                for kind, counts in description.categories.items()
                for name, count in counts.items()
            ],
        )
        cursor.executemany(
            "INSERT INTO month_histograms (profile_key, name, bin, low, high, rows) VALUES (%s, %s, %s, %s, %s, %s)",
            [
                (work.key, name, place, low, high, int(rows))
                for name, bars in description.histograms.items()
                for place, ((low, high), rows) in enumerate(zip(pairwise(bars["edges"]), bars["counts"], strict=True))
            ],
        )
