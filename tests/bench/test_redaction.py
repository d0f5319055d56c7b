"""The benchmark's rows on redaction are in the benchmark's frame, and met."""

import pytest

from theta_ml.bench import COLUMNS
from theta_ml.bench.redaction import GOLD, redaction_rows


@pytest.mark.skipif(not GOLD.exists(), reason=f"no benchmark at {GOLD}")
def test_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("theta_ml.bench.redaction.FILES", ("taskmaster4",))
    rows = redaction_rows()
    assert all(tuple(row) == COLUMNS and row["ok"] for row in rows)
    names = {row["name"] for row in rows}
    assert {"redaction: SECRET recall", "redaction: PHONE precision", "redaction: NAME recall"} <= names
    assert {"redaction: presidio_synth_v2", "redaction: taskmaster4"} <= names
