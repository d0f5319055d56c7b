"""The losses as a picture that a mail can show, on light ground and on dark."""

import base64
import io
from typing import TYPE_CHECKING, Any

from theta_ml.training.oversight.course import Line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, TRAIN, VALIDATION = "#757a81", "#3b82f6", "#e8710a"
"""Middle tones: each can be read on white and on black, and by those who see no red or green."""
WIDTH, HEIGHT, DPI = 5.6, 2.6, 170
"""Inches, and dots for each: small, so that its letters can be read on a telephone, too."""


def loss_picture(history: list[Line], steps: int) -> str | None:
    """A PNG in base64, about 40 kB; None where there is no line yet."""
    lines = [line for line in history if "train_loss" in line]
    validations = [line for line in history if "validation_loss" in line]
    if len(lines) + len(validations) < 2:
        return None
    from matplotlib.figure import Figure  # not pyplot: it keeps state that threads would share

    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    _curves(axes, lines, validations)
    _frame(axes, steps)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", transparent=True)
    return base64.b64encode(stream.getvalue()).decode()


def _curves(axes: "Axes", lines: list[Line], validations: list[Line]) -> None:
    axes.plot(*_points(lines, "train_loss"), color=TRAIN, linewidth=1.6, label="training")
    if not validations:
        return
    axes.plot(
        *_points(validations, "validation_loss"),
        color=VALIDATION, linewidth=1.8, marker="o", markersize=3.5, label="validation",
    )  # fmt: skip
    best = min(validations, key=lambda line: float(line["validation_loss"]))
    axes.annotate(
        f"{best['validation_loss']:.2f}",
        (best["step"], best["validation_loss"]),
        xytext=(0, 8), textcoords="offset points", ha="center", color=VALIDATION, fontsize=9,
    )  # fmt: skip


def _points(lines: list[Line], name: str) -> tuple[list[Any], list[Any]]:
    return [line["step"] for line in lines], [line[name] for line in lines]


def _frame(axes: "Axes", steps: int) -> None:
    """The whole way is shown, so that one sees how much of it is left."""
    axes.set_xlim(0, max(1, steps))
    axes.margins(y=0.15)
    axes.set_xlabel("step", color=INK)
    axes.set_ylabel("loss", color=INK)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(color=INK, alpha=0.25, linewidth=0.6)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(INK)
    axes.legend(frameon=False, labelcolor=INK, fontsize=9)
