"""Evidently's drift report, with our methods and thresholds: its defaults change with the sample's size."""

import os
from typing import Any

from theta_ml.quality.columns import Column


def evidently_report(columns: list[Column], thresholds: dict[str, float]) -> tuple[dict[str, float], str]:
    """Each column's score as Evidently computed it, and its page: HTML that holds its scripts."""
    os.environ["DO_NOT_TRACK"] = "1"  # read when the package is imported
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    numbers = [column.name for column in columns if column.method == "wasserstein"]
    kinds = [column.name for column in columns if column.method != "wasserstein"]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=kinds)
    current, reference = (
        Dataset.from_pandas(_frame({column.name: getattr(column, side) for column in columns}), definition)
        for side in ("current", "reference")
    )
    preset = DataDriftPreset(
        columns=[column.name for column in columns],
        drift_share=1 / len(columns),  # the thresholds are for all columns together: one beyond its own is enough
        per_column_method={column.name: column.method for column in columns},
        per_column_threshold=thresholds,
    )
    result = Report([preset]).run(current_data=current, reference_data=reference)
    return _scores(result.dict()), result.get_html_str(as_iframe=False)


def _frame(columns: dict[str, Any]) -> Any:
    """One table of columns of different lengths: Evidently leaves out what is missing, column by column."""
    import pandas as pd

    return pd.DataFrame({name: pd.Series(values) for name, values in columns.items()})


def _scores(result: dict[str, Any]) -> dict[str, float]:
    return {
        metric["config"]["column"]: float(metric["value"])
        for metric in result["metrics"]
        if metric["config"].get("column")
    }
