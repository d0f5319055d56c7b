"""Shapes of curves, and what is said of them."""

import math
from typing import Any

import pytest

from theta_ml.training.oversight.overfitting import Overfitting, analyse

MILLION = 1_000_000


def judge(
    validation: list[float], train: list[float], parameters: int = 5 * MILLION, tokens: int = 20 * MILLION
) -> Overfitting:
    lines: list[dict[str, Any]] = [
        {"step": 10 * n, "epoch": n, "validation_loss": v, "epoch_train_loss": t}
        for n, (v, t) in enumerate(zip(validation, train, strict=True), 1)
    ]
    return analyse(lines, parameters, tokens)


HEALTHY = ([4.0, 3.4, 3.0, 2.8, 2.7, 2.65], [4.3, 3.6, 3.1, 2.85, 2.72, 2.64])
NOISY_PLATEAU = ([3.0, 2.9, 2.905, 2.898, 2.903, 2.9], [3.1, 2.92, 2.9, 2.89, 2.88, 2.88])
TURNED = ([4.0, 3.2, 2.9, 2.95, 3.1, 3.4], [4.2, 3.2, 2.6, 2.1, 1.7, 1.3])
BY_HEART = ([4.0, 3.5, 3.3, 3.3, 3.35, 3.4], [4.0, 2.0, 0.9, 0.3, 0.1, 0.05])


@pytest.mark.parametrize(
    ("curves", "level"), [(HEALTHY, "low"), (NOISY_PLATEAU, "low"), (TURNED, "high"), (BY_HEART, "high")]
)
def test_the_shape_decides(curves: tuple[list[float], list[float]], level: str) -> None:
    assert judge(*curves).level == level


def test_what_turned_is_told_in_words() -> None:
    told = judge(*TURNED)
    assert any("rose by 17.2% since its best, 2.90 at step 30" in reason for reason in told.reasons)
    assert any("above the training loss" in reason for reason in told.reasons)
    assert any("patience" in advice for advice in told.recommendations)
    assert len(set(told.recommendations)) == len(told.recommendations)
    assert "near zero" not in told.sentence and "near zero" in judge(*BY_HEART).sentence


def test_the_further_it_rises_the_higher_the_risk() -> None:
    risks = [judge([3.0, 2.5, 2.5 + rise], [3.0, 2.5, 2.4]).risk for rise in (0.0, 0.05, 0.1, 0.2, 0.4)]
    assert risks == sorted(risks) and risks[0] < 0.05 < 0.5 < risks[-1] < 1


def test_many_passes_over_few_tokens_are_a_warning_and_no_more() -> None:
    few = judge(*HEALTHY, parameters=100 * MILLION, tokens=MILLION)
    assert judge(*HEALTHY).risk < few.risk < 0.3
    assert "1,000,000 tokens for 100,000,000 trained parameters, passed over 6 times" in few.sentence
    assert any("LoRA" in advice for advice in few.recommendations)


def test_little_is_said_of_little() -> None:
    assert analyse([], MILLION, MILLION) == Overfitting(0.0, "low", [], [])
    assert judge([3.0], [3.2]).risk < 0.05
    assert judge([3.0, math.nan], [3.1, 3.0]) == judge([3.0], [3.1])
    assert analyse([{"step": 1, "train_loss": 0.01}], MILLION, MILLION).risk == 0


def test_the_loss_of_preferences_may_be_small() -> None:
    assert judge([0.66, 0.5, 0.4, 0.35], [0.68, 0.52, 0.41, 0.34]).level == "low"
