from datetime import UTC, datetime, timedelta, timezone

import pytest

from theta_ml.month import Month


def test_a_month_is_half_open_in_utc() -> None:
    month = Month.parse("2025-12")
    assert month.start == datetime(2025, 12, 1, tzinfo=UTC)
    assert month.end == datetime(2026, 1, 1, tzinfo=UTC)
    assert Month.of(datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1)))) == month


def test_shifting_crosses_years() -> None:
    assert str(Month.parse("2026-01").shift(-1)) == "2025-12"
    assert str(Month.parse("2025-11").shift(14)) == "2027-01"


@pytest.mark.parametrize("text", ["2026-13", "2026-1", "26-01", "2026-01-01", "", "2026-01\n"])
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="YYYY-MM"):
        Month.parse(text)
