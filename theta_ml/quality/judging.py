"""Great Expectations, kept quiet: expectations judged in Postgres on a table of features, and its Data Docs.

Importing it takes seconds, so that `Judge.open` is best called while Postgres is busy.
"""

import logging
import os
from pathlib import Path
from typing import Any, Self

from psycopg.conninfo import conninfo_to_dict

from theta_ml.landing.database import DatabaseUnreachable
from theta_ml.month import Month
from theta_ml.stage import StageFailed

# Never a value in a result: identifiers and timestamps of people do not belong in reports.
_RESULT_FORMAT = {"result_format": "BASIC", "exclude_unexpected_values": True, "partial_unexpected_count": 0}
_LIBPQ = {"user": "username", "password": "password", "port": "port", "dbname": "database"}


class Judge:
    """A context of Great Expectations that keeps nothing but Data Docs, and its connection to Postgres."""

    def __init__(self, context: Any, source: Any) -> None:
        self._context = context
        self._source = source

    @classmethod
    def open(cls, url: str, schema: str, folder: Path) -> Self:
        """`schema` is where the tables are, `folder` where the Data Docs go. Raises DatabaseUnreachable."""
        os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when the package is imported
        logging.getLogger("great_expectations").setLevel(logging.ERROR)
        import great_expectations as gx
        from great_expectations.datasource.fluent.interfaces import TestConnectionError

        context = gx.get_context(mode="ephemeral", project_config=_configuration(folder))
        try:
            source = context.data_sources.add_postgres("landing", connection_string=_sqlalchemy_url(url, schema))
        except TestConnectionError:  # what it says may hold the connection string
            raise DatabaseUnreachable("Great Expectations could not connect to the database") from None
        return cls(context, source)

    def validate(self, name: str, table: str, month: str, expectations: list[dict[str, Any]]) -> dict[int, Any]:
        """Results by the `place` in an expectation's meta: Great Expectations returns them in an order of its own."""
        import great_expectations as gx

        suite = self._context.suites.add(gx.ExpectationSuite(name=name, expectations=expectations))
        asset = self._source.add_table_asset(name, table_name=table)
        # The batch is named after its month: the default would be "the newest".
        batch = asset.add_batch_definition_whole_table(month).get_batch()
        outcome = batch.validate(suite, result_format=_RESULT_FORMAT)
        self._keep(name, month, outcome)
        return {result.expectation_config.meta["place"]: result for result in outcome.results}

    def write_docs(self) -> None:
        """Data Docs of all that was validated."""
        self._context.build_data_docs()

    def close(self) -> None:
        self._source.get_execution_engine().close()

    def _keep(self, name: str, month: str, outcome: Any) -> None:
        from great_expectations.core.run_identifier import RunIdentifier
        from great_expectations.data_context.types.resource_identifiers import (
            ExpectationSuiteIdentifier,
            ValidationResultIdentifier,
        )

        for result in (outcome, *outcome.results):
            result.success = bool(result.success)  # some are numpy's, which do not become JSON
        run = RunIdentifier(month, Month.parse(month).start)
        outcome.meta["run_id"] = run
        place = ValidationResultIdentifier(ExpectationSuiteIdentifier(name), run, month)
        self._context.validation_results_store.set(place, outcome)


def require_ran(name: str, result: Any) -> None:
    """Raises StageFailed where the expectation could not be run: the suite is at fault, not the data."""
    info = result.exception_info or {}
    faults = [info] if "raised_exception" in info else list(info.values())
    raised = next((fault for fault in faults if fault.get("raised_exception")), None)
    if raised:
        raise StageFailed(f"expectation {name!r} could not be run: {_first_line(raised['exception_message'])}")


def _first_line(message: str) -> str:
    """What follows is the statement, of many lines."""
    return " ".join(message.split("[SQL:")[0].split())


def _configuration(folder: Path) -> Any:
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    return DataContextConfig(
        # Else each context would leave a temporary directory behind.
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        data_docs_sites={
            "theta": {
                "class_name": "SiteBuilder",
                "show_how_to_buttons": False,
                "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder)},
                "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            }
        },
        progress_bars=ProgressBarsConfig(globally=False, metric_calculations=False),
        analytics_enabled=False,
    )


def _sqlalchemy_url(url: str, schema: str) -> str:
    """A URL with a host, without which Great Expectations takes none: a socket's folder goes into its query."""
    from sqlalchemy.engine import URL

    parameters = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    host = parameters.pop("host", "localhost")
    known = {ours: parameters.pop(name) for name, ours in _LIBPQ.items() if name in parameters}
    options = f"{parameters.pop('options', '')} -c timezone=UTC -c search_path={schema}".strip()
    more = parameters | {"options": options} | ({"host": host} if host.startswith("/") else {})
    port = int(known.pop("port")) if "port" in known else None
    made = URL.create(
        "postgresql+psycopg2", host="localhost" if host.startswith("/") else host, port=port, query=more, **known
    )
    return made.render_as_string(hide_password=False)
