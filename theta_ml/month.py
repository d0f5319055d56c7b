"""A month: `YYYY-MM`, UTC, half-open."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime

MONTH_PATTERN = r"^\d{4}-(0[1-9]|1[0-2])$"


@dataclass(frozen=True, order=True)
class Month:
    """`[start, end)` in UTC; sorts by time; `str()` is `YYYY-MM`."""

    year: int
    number: int

    @classmethod
    def parse(cls, text: str) -> "Month":
        """Raises ValueError unless `text` is `YYYY-MM`."""
        if not re.fullmatch(MONTH_PATTERN, text):
            raise ValueError(f"not a month: {text!r}; write it as YYYY-MM, for example 2026-03")
        return cls(int(text[:4]), int(text[5:]))

    @classmethod
    def of(cls, instant: datetime | date) -> "Month":
        if isinstance(instant, datetime):
            instant = instant.astimezone(UTC)
        return cls(instant.year, instant.month)

    def shift(self, months: int) -> "Month":
        years, number = divmod(self.number - 1 + months, 12)
        return Month(self.year + years, number + 1)

    @property
    def start(self) -> datetime:
        return datetime(self.year, self.number, 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        return self.shift(1).start

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.number:02d}"
