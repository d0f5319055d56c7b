"""Conversations in a corpus: it holds none itself, but shows excerpts in its report."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from theta_ml.corpus import report
from theta_ml.corpus.cleaning import Sample
from theta_ml.corpus.prepare import DROPS
from theta_ml.corpus.report import JSON, PAGE, Accounting, UnitAccount
from theta_ml.corpus.unit import REASONS
from theta_ml.store import DOCUMENT, Rewriting


def units_of(files: Rewriting) -> list[dict[str, Any]]:
    """Name, key and weight of each unit, in the order that the drop list counts them."""
    units: list[dict[str, Any]] = _value(files)["units"]
    return units


def month_of(files: Rewriting) -> str:
    """The run's."""
    return str(_value(files)["month"])


def drop_reason(files: Rewriting, unit: int, number: int) -> str | None:
    """Why the corpus leaves out the conversation of this number in its unit; None where it does not."""
    drops = np.load(files.path(DROPS))
    found = drops["reason"][(drops["unit"] == unit) & (drops["conversation"] == number)]
    return REASONS[found[0]] if len(found) else None


def shown(files: Rewriting, ids: frozenset[str]) -> int:
    """Conversations of `ids` in the report."""
    if JSON not in files.names():
        return 0
    accounting = _read(files)
    return len({sample.conversation_id for unit in accounting.units for sample in unit.samples} & ids)


def scrub(files: Rewriting, ids: frozenset[str]) -> None:
    """Writes the report anew without excerpts of `ids`; its numbers stay what they were."""
    if not shown(files, ids):
        return
    before = _read(files)
    units = [_without(unit, ids) for unit in before.units]
    with tempfile.TemporaryDirectory() as folder:
        report.write(Path(folder), Accounting(before.month, units))
        for name in (PAGE, JSON):  # what tells that there is something to do goes last
            with files.replacing(name) as new:
                new.write_bytes((Path(folder) / name).read_bytes())


def _value(files: Rewriting) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(files.path(DOCUMENT).read_text())["value"]
    return value


def _without(unit: UnitAccount, ids: frozenset[str]) -> UnitAccount:
    samples = [sample for sample in unit.samples if sample.conversation_id not in ids]
    return UnitAccount(**(vars(unit) | {"samples": samples}))


def _read(files: Rewriting) -> Accounting:
    document = json.loads(files.path(JSON).read_text())
    units = [UnitAccount(**(unit | {"samples": _samples(unit["samples"])})) for unit in document["units"]]
    return Accounting(document["month"], units)


def _samples(rows: list[dict[str, str]]) -> list[Sample]:
    """With their order, which the report leaves out: a hash of the id (see `cleaning.samples.sampled`)."""
    orders = pl.Series([row["conversation_id"] for row in rows], dtype=pl.String).hash(0)
    return [
        Sample(order, row["step"], row["conversation_id"], row["before"], row["after"])
        for order, row in zip(orders, rows, strict=True)
    ]
