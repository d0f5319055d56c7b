"""A month's drift in the tables that dashboards read."""

from theta_ml.landing.database import connect, database_faults
from theta_ml.quality.comparing import DriftReport
from theta_ml.stage import Work


def record(work: Work, report: DriftReport) -> None:
    """All of it or nothing; recorded before, it stays as it is. Where no database is set, by hand, the artifact is all
    there is. Raises DatabaseUnreachable."""
    if work.settings.database_url is None:
        work.events.log("no database is set: the distances are in the artifact only")
        return
    with database_faults(), connect(work.settings) as connection:
        new = connection.execute(
            "INSERT INTO month_drifts (drift_key, month, run_id, reference_month, outcome, sentence)"
            " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING drift_key",
            [work.key, report.month, work.run_id, report.reference_month, report.outcome, report.sentence],
        ).fetchone()
        if new is not None:
            connection.cursor().executemany(
                "INSERT INTO month_drift_columns"
                " (drift_key, reference_month, name, method, score, threshold, drifted)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s)",
                [
                    (work.key, c.reference_month, c.column, c.method, c.score, c.threshold, c.drifted)
                    for c in report.columns
                ],
            )
