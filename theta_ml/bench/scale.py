"""`theta bench scale`: how the stages grow with the data, what shards and Celery bring and cost.

Five million messages, and a quarter of an hour on two calm cores.
"""

from typing import Any

from theta_ml.bench import row
from theta_ml.bench.scale_fit import Growth, Interval, beyond_start, fit
from theta_ml.bench.scale_overhead import overhead_rows, require_redis
from theta_ml.bench.scale_shards import shard_rows, worker_cores
from theta_ml.bench.scale_stages import STAGES, Amount, kept, measure_stages

EXPONENT = 1.05
"""Time beyond a stage's start may grow as this power of the messages: what the start hides at small amounts, it does
not at large ones. One that lies above by less than its standard error is not told apart from it, and passes."""
FLAT = 1.3
"""The memory's peak at the largest amount may be so many times that at a million messages, a fifth of it."""
FARTHEST = (10**5, 10**6, 10**7, 10**8, 10**9)
"""Conversations that the measurements are extrapolated to."""


def bench_scale() -> list[dict[str, Any]]:
    """Rows of the stages, of the shards, of the executors.

    Raises ClickException, before anything is measured, where shards or executors could not be.
    """
    require_redis()
    worker_cores()
    return [*stage_rows(measure_stages()), *shard_rows(), *overhead_rows()]


def stage_rows(amounts: list[Amount]) -> list[dict[str, Any]]:
    """What was measured; of each stage its growth, and what it would take for far more."""
    measured = [each for name in STAGES for each in _measured_rows(name, amounts)]
    targets = [each for name in STAGES for each in (_time_row(name, amounts), _memory_row(name, amounts))]
    return [
        *targets,
        *(_whole_time_row(name, amounts) for name in STAGES),
        *measured,
        *_landing_rows(amounts),
        *(each for name in STAGES for each in _far_rows(name, amounts)),
    ]


def _time_row(name: str, amounts: list[Amount]) -> dict[str, Any]:
    found = _growth(name, amounts).work
    return row(
        f"{name}: time beyond its start grows as a power of the messages, {_span(amounts)}", found.exponent, "exponent",
        peer="its standard error", peer_value=found.error, target=EXPONENT,
        ok=found.exponent - found.error <= EXPONENT,
    )  # fmt: skip


def _whole_time_row(name: str, amounts: list[Amount]) -> dict[str, Any]:
    messages, seconds, _ = kept(amounts, name)
    title = f"{name}: time, its start included, grows as a power of the messages, {_span(amounts[1:])}"
    return row(title, fit(messages, seconds).exponent, "exponent")


def _growth(name: str, amounts: list[Amount]) -> Growth:
    return beyond_start([each.messages for each in amounts], [each.stages[name].seconds for each in amounts])


def _span(amounts: list[Amount]) -> str:
    return f"{amounts[0].messages:,} to {amounts[-1].messages:,}"


def _memory_row(name: str, amounts: list[Amount]) -> dict[str, Any]:
    messages, _, peaks = kept(amounts, name)
    few = _reference(messages)
    ratio = peaks[-1] / peaks[few]
    return row(
        f"{name}: peak memory with Postgres, {messages[-1]:,.0f} messages", peaks[-1] / 2**20, "MiB",
        peer=f"{messages[few]:,.0f} messages", peer_value=peaks[few] / 2**20, ratio=ratio, target=FLAT,
        ok=ratio <= FLAT,
    )  # fmt: skip


def _reference(messages: list[float]) -> int:
    """Place of the amount that the largest is held against: the largest of at most a third of it."""
    return max(place for place, each in enumerate(messages) if each <= messages[-1] / 2.9)


def _measured_rows(name: str, amounts: list[Amount]) -> list[dict[str, Any]]:
    rows = []
    for amount in amounts:
        stage, title = amount.stages[name], f"{name}, {amount.messages:,} messages"
        rows += [row(title, stage.seconds, "s"), row(f"{title}: peak", stage.peak_bytes / 2**20, "MiB")]
    return rows


def _landing_rows(amounts: list[Amount]) -> list[dict[str, Any]]:
    """How fast conversations landed among those that were there, and what all take on disk."""
    most = amounts[-1]
    rates = [row(f"import, up to {each.messages:,} messages", each.import_rate, "messages/s") for each in amounts[1:]]
    sizes = [row(f"on disk, {what}", size / most.messages, "bytes/message") for what, size in most.bytes.items()]
    return [*rates, *sizes, row("messages in a conversation", most.messages / most.conversations, "messages")]


def _far_rows(name: str, amounts: list[Amount]) -> list[dict[str, Any]]:
    """Extrapolated, with the interval in which one more measurement would lie 19 times of 20."""
    found, each = _growth(name, amounts), amounts[-1].messages / amounts[-1].conversations
    return [part for far in FARTHEST for part in _interval_rows(name, far, found.at(far * each))]


def _interval_rows(name: str, conversations: int, seconds: Interval) -> list[dict[str, Any]]:
    title = f"{name}, {conversations:,} conversations, extrapolated"
    ends = (("", seconds.middle), (": least", seconds.low), (": most", seconds.high))
    return [row(f"{title}{end}", value / 3600, "h") for end, value in ends]
