"""What a mail about a decision shows: how the candidate differs from the champion by slice, and how it learned."""

import base64
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from theta_ml.digits import signed
from theta_ml.evaluation.comparison import Slice
from theta_ml.evaluation.evaluate import SCORES
from theta_ml.evaluation.report import EvaluationReport
from theta_ml.mail.letter import Picture
from theta_ml.stage import Inputs
from theta_ml.training.oversight.picture import DPI, INK, WIDTH, loss_picture

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes

BETTER, WORSE, EITHER = "#3b82f6", "#e8710a", "#8b929b"
"""The whole interval is on one side of no difference, or it is not; also told apart by the marker's shape."""
ROWS, LONGEST_NAME = 14, 24
RESAMPLES, SEED = 2000, 20260101


@dataclass(frozen=True)
class Bar:
    """A difference, candidate − champion, in bits per byte."""

    name: str
    conversations: int
    difference: float
    low: float | None
    high: float | None

    @property
    def colour(self) -> str:
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return EITHER
        return BETTER if self.high < 0 else WORSE


def pictures(inputs: Inputs, effect: float | None, champion: int | None) -> list[Picture]:
    """Those that there is anything to show in. `effect` is what the gate asked for, in bits per byte (below zero);
    `champion` is the version that the decision is about: an evaluation against another one shows nothing of it."""
    found = []
    report = inputs.optional("evaluate", EvaluationReport)
    if report and champion is not None and report.champion_version == champion:
        bars = bars_of(report, inputs.path("evaluate") / SCORES)
        if bars:
            says = "Candidate minus champion in bits per byte, over all and by slice, with 95 % intervals."
            found.append(Picture("comparison", says, comparison_picture(bars, effect)))
    losses = _losses(inputs)
    if losses:
        found.append(Picture("losses", "Training and validation loss by step.", losses))
    return found


def _losses(inputs: Inputs) -> str | None:
    if "train" not in inputs:
        return None
    train = inputs.artifact("train")
    history = train.path / "history.jsonl"
    lines = [json.loads(line) for line in history.read_text().splitlines() if line] if history.exists() else []
    return loss_picture(lines, train.document["value"].get("steps", 0))


def bars_of(report: EvaluationReport, scores: Path) -> list[Bar]:
    """All conversations first, then the slices that were judged, those that changed most first."""
    if report.difference is None:
        return []
    whole = Bar("all", report.conversations, report.difference, report.interval_low, report.interval_high)
    judged = [s for s in report.slices if s.p_value is not None]  # of fewer, chance says more than the models
    intervals = dict(_intervals(scores, judged)) if scores.exists() else {}
    slices = [
        Bar(f"{s.name} {s.value}", s.conversations, s.difference, *intervals.get((s.name, s.value), (None, None)))
        for s in judged
        if s.difference is not None
    ]
    slices.sort(key=lambda bar: -abs(bar.difference - whole.difference))
    shown = sorted(slices[: ROWS - 1], key=lambda bar: bar.difference, reverse=True)
    return [whole, *shown]


def _intervals(path: Path, slices: Sequence[Slice]) -> Iterator[tuple[tuple[str, str], tuple[float, float]]]:
    """95 % intervals by (property, value), by a paired bootstrap over the conversations of the slice."""
    import pyarrow.parquet as pq

    scores = pq.read_table(path)
    names = set(scores.column_names)
    if not {"bytes", "candidate_nats", "champion_nats"} <= names:
        return
    for each in slices:
        if each.name in names:
            yield from _interval(scores, each.name, each.value)


def _interval(scores: "pa.Table", name: str, value: str) -> Iterator[tuple[tuple[str, str], tuple[float, float]]]:
    import numpy as np
    import pyarrow.compute as pc

    from theta_ml.evaluation.bootstrap import interval, resampled_differences

    part = scores.filter(pc.equal(scores[name], value)).select(["candidate_nats", "champion_nats", "bytes"])
    if not len(part) or any(column.null_count for column in part.columns):
        return
    candidate, champion, byte_counts = (np.asarray(column, dtype=np.float64) for column in part.columns)
    found = interval(resampled_differences(candidate, champion, byte_counts, RESAMPLES, SEED))
    yield (name, value), (found.low, found.high)


def comparison_picture(bars: Sequence[Bar], effect: float | None) -> str:
    """A PNG in base64; a row for each bar, the first on top and set off from the others."""
    from matplotlib.figure import Figure  # not pyplot: it keeps state that threads would share

    figure = Figure(figsize=(WIDTH, 1.2 + 0.24 * len(bars)), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    for place, bar in enumerate(bars):
        _draw(axes, -place - (0.35 if place else 0), bar)
    _frame(axes, bars, effect)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", transparent=True)
    return base64.b64encode(stream.getvalue()).decode()


def _draw(axes: "Axes", y: float, bar: Bar) -> None:
    if bar.low is not None and bar.high is not None:
        axes.plot([bar.low, bar.high], [y, y], color=bar.colour, linewidth=2.2, solid_capstyle="round")
    marker = {BETTER: "o", WORSE: "s", EITHER: "D"}[bar.colour]
    axes.plot([bar.difference], [y], marker=marker, color=bar.colour, markersize=6)


def _frame(axes: "Axes", bars: Sequence[Bar], effect: float | None) -> None:
    axes.axvline(0, color=INK, linewidth=1.0)
    if effect is not None:
        axes.axvline(effect, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.annotate(
            f"asked {signed(effect)}", (effect, 1), xycoords=("data", "axes fraction"), xytext=(0, 3),
            textcoords="offset points", ha="center", va="bottom", color=INK, fontsize=9,
        )  # fmt: skip
    axes.set_yticks([-place - (0.35 if place else 0) for place in range(len(bars))], [_label(bar) for bar in bars])
    axes.set_ylim(-len(bars) - 0.1, 0.8)
    axes.margins(x=0.08)
    axes.set_xlabel("← better   candidate − champion, bits per byte   worse →", color=INK, fontsize=9)
    axes.tick_params(colors=INK, labelsize=9, length=0)
    axes.grid(axis="x", color=INK, alpha=0.25, linewidth=0.6)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _label(bar: Bar) -> str:
    name = bar.name if len(bar.name) <= LONGEST_NAME else f"{bar.name[: LONGEST_NAME - 1]}…"
    return f"{name} ({bar.conversations:,})".replace("$", r"\$")  # names come from data, and $ begins a formula
