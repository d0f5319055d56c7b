"""The pages of profile and drift: self-contained, charts drawn as SVG."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theta_ml.quality.comparing import ColumnDrift, DriftReport
from theta_ml.quality.digest import Description
from theta_ml.quality.report import render
from theta_ml.quality.wording import called, percent

WIDTH, HEIGHT = 320.0, 96.0
_GAP = 1.0
_CHARTS = {
    "turns": "Turns of a conversation",
    "words": "Words of a conversation",
    "user_chars": "Characters of a user's message",
    "reply_chars": "Characters of a reply",
    "rating": "Ratings of conversations",
    "message_rating": "Ratings of messages",
    "hour": "Hour of the day (UTC)",
    "weekday": "Day of the week",
    "day": "Day of the month",
}
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_TILES = {
    "conversations": "conversations",
    "messages": "messages",
    "users": "users",
    "turns_median": "turns, median",
    "reply_chars_median": "characters a reply, median",
    "rating_mean": "mean rating",
}
_MISSING = {"topic": "topic", "language": "language", "rating": "rating", "user": "user"}
_KINDS = {"topic": "Topics", "language": "Languages", "source": "Sources"}
_MOST = 15


@dataclass(frozen=True)
class Bar:
    """A rectangle of a chart, and what it says."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True)
class Chart:
    """Bars, and what stands under the first and the last."""

    title: str
    bars: list[Bar]
    low: str
    high: str


def write_profile(path: Path, description: Description) -> None:
    """One month in numbers and charts."""
    numbers = description.statistics
    charts = [_chart(name, description.histograms[name]) for name in _CHARTS if name in description.histograms]
    render(
        path,
        "profile.html",
        month=description.month,
        tiles=[(_number(numbers[name]), label) for name, label in _TILES.items() if numbers.get(name)],
        charts=[chart for chart in charts if chart.bars],
        kinds=[(title, _rows(description.categories[kind])) for kind, title in _KINDS.items()],
        missing=[
            (label, numbers[f"missing_{name}"]) for name, label in _MISSING.items() if f"missing_{name}" in numbers
        ],
        indicators=[(called(name), value) for name, value in sorted(description.indicators.items())],
        share=percent,
        width=WIDTH,
        height=HEIGHT,
    )


def write_drift(path: Path, report: DriftReport, pages: list[str]) -> None:
    """What was compared, and where it is beyond what counts; `pages`: Evidently's, of each comparison."""
    tables = [
        (each, page, [_measured(column) for column in _by_distance(report, each.reference_month)])
        for each, page in zip(report.comparisons, pages, strict=True)
    ]
    risen = [(called(name), before, now) for name, (before, now) in sorted(report.indicators.items())]
    render(path, "drift.html", report=report, tables=tables, indicators=risen, share=percent)


def _by_distance(report: DriftReport, month: str) -> list[ColumnDrift]:
    ours = [column for column in report.columns if column.reference_month == month]
    return sorted(ours, key=lambda column: -column.score / column.threshold)


def _measured(column: ColumnDrift) -> dict[str, Any]:
    """The bar is as long as its threshold at half of the width."""
    return {
        "name": called(column.column),
        "change": column.change,
        "score": f"{column.score:.3f}",
        "threshold": f"{column.threshold:.3f}",
        "drifted": column.drifted,
        "length": round(min(100.0, 50 * column.score / column.threshold), 1),
    }


def _chart(name: str, bars: dict[str, list[float]]) -> Chart:
    counts, edges = bars["counts"], bars["edges"]
    top, width = max(counts, default=0), WIDTH / max(1, len(counts))
    if not top:
        return Chart(_CHARTS[name], [], "", "")
    drawn = [
        Bar(
            round(place * width, 2),
            round(HEIGHT * (1 - count / top), 2),
            round(width - _GAP, 2),
            round(HEIGHT * count / top, 2),
            f"{_place(name, edges[place], edges[place + 1])}: {count:,.0f}",
        )
        for place, count in enumerate(counts)
    ]
    low, high = (_place(name, edges[place], edges[place + 1]) for place in (0, len(counts) - 1))
    return Chart(_CHARTS[name], drawn, low, high)


def _place(name: str, low: float, high: float) -> str:
    """What a bar stands for."""
    if name == "weekday":
        return _WEEKDAYS[int(low) - 1]
    if name in ("hour", "day"):
        return f"{low:.0f}"
    if name.endswith("rating"):
        return f"{(low + high) / 2:.0f}"
    return f"{low:,.0f}–{high:,.0f}"


def _rows(counts: dict[str, int]) -> list[tuple[str, int, float, float]]:
    """Name, conversations, share, and the length of its bar in percent; of the most frequent."""
    total, most = sum(counts.values()), max(counts.values(), default=1)
    return [(name, count, count / total, 100 * count / most) for name, count in list(counts.items())[:_MOST]]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) else f"{value:,.2f}"
