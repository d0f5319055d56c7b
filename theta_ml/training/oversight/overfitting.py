"""Overfitting, read off the curves: a score, its reasons, and what to do about it, in words.

Each sign has a strength from 0 to 1 and a weight, the most that it can make of the score alone; together they count as
independent warnings do, 1 - Π(1 - weight · strength). On repeated data: up to about four passes are worth nearly as
much as new text, later ones ever less (Muennighoff et al. 2023, "Scaling Data-Constrained Language Models").
"""

import math
from dataclasses import dataclass
from typing import Any

MODERATE, HIGH = 0.25, 0.55
REPEATS = 4
OF_TOKENS = 1.0
"""Nats: a model that is new to a corpus starts above it."""


@dataclass(frozen=True)
class Overfitting:
    """How likely the model learned its corpus by heart; `asdict` of it goes into the artifact's document."""

    risk: float
    """0 to 1."""
    level: str
    """`low`, `moderate` or `high`."""
    reasons: list[str]
    recommendations: list[str]

    @property
    def sentence(self) -> str:
        return f"{self.level} ({self.risk:.2f}): {'; '.join(self.reasons) or 'nothing in the curves speaks for it'}"


@dataclass(frozen=True)
class _Sign:
    strength: float
    weight: float
    reason: str
    recommendation: str

    @property
    def share(self) -> float:
        return self.strength * self.weight


@dataclass(frozen=True)
class _Curves:
    """What each validation found, oldest first."""

    highest: float
    """Of all losses."""

    validation: list[float]
    train: list[float]
    steps: list[int]
    epochs: float

    @property
    def best(self) -> int:
        return min(range(len(self.validation)), key=self.validation.__getitem__)

    @property
    def gaps(self) -> list[float]:
        """Generalisation gap, as a share of the validation loss."""
        return [(v - t) / max(v, 1e-9) for v, t in zip(self.validation, self.train, strict=True)]


def analyse(history: list[dict[str, Any]], parameters: int, tokens: int) -> Overfitting:
    """From the history's lines, the number of trained parameters, and the corpus's tokens in one epoch."""
    curves = _curves(history)
    signs = [*_signs_of_curves(curves), _few_tokens(parameters, tokens, curves.epochs)]
    risk = 1 - math.prod(1 - sign.share for sign in signs)
    telling = sorted((sign for sign in signs if sign.share >= 0.05), key=lambda sign: -sign.share)
    return Overfitting(
        risk=round(risk, 4),
        level="high" if risk >= HIGH else "moderate" if risk >= MODERATE else "low",
        reasons=[sign.reason for sign in telling],
        recommendations=list(dict.fromkeys(sign.recommendation for sign in telling)),
    )


def _curves(history: list[dict[str, Any]]) -> _Curves:
    lines = [
        line
        for line in history
        if math.isfinite(line.get("validation_loss", math.nan)) and math.isfinite(line.get("epoch_train_loss", 0.0))
    ]
    losses = [line[name] for line in history for name in ("train_loss", "validation_loss") if name in line]
    return _Curves(
        highest=max(filter(math.isfinite, losses), default=0.0),
        validation=[line["validation_loss"] for line in lines],
        train=[line.get("epoch_train_loss", line["validation_loss"]) for line in lines],
        steps=[line["step"] for line in lines],
        epochs=max((float(line.get("epoch", 0)) for line in lines), default=0.0),
    )


def _signs_of_curves(curves: _Curves) -> list[_Sign]:
    if not curves.validation:
        return []
    signs = [_gap(curves), _near_zero(curves)]
    return signs if len(curves.validation) < 3 else [*signs, _gap_trend(curves), _rise(curves), _since_best(curves)]


def _gap(curves: _Curves) -> _Sign:
    gap = curves.gaps[-1]
    return _Sign(
        strength=_ramp(gap, 0.10, 0.50),
        weight=0.6,
        reason=f"the validation loss of {curves.validation[-1]:.2f} is {gap:.0%} above the training loss of "
        f"{curves.train[-1]:.2f}",
        recommendation="add conversations, or replay more of the earlier months; more dropout helps less",
    )


def _gap_trend(curves: _Curves) -> _Sign:
    """Growth of the gap over the last half of the validations."""
    later = curves.gaps[len(curves.gaps) // 2 - 1 :]
    growth = later[-1] - later[0] if later[-1] > 0 else 0.0
    return _Sign(
        strength=_ramp(growth, 0.05, 0.30),
        weight=0.3,
        reason=f"over the last {len(later)} validations the gap between the losses grew by {growth:.0%} of the loss",
        recommendation="train for fewer epochs, or end earlier (`patience`)",
    )


def _rise(curves: _Curves) -> _Sign:
    best = curves.validation[curves.best]
    rise, step = curves.validation[-1] / max(best, 1e-9) - 1, curves.steps[curves.best]
    return _Sign(
        strength=_ramp(rise, 0.01, 0.12),
        weight=0.7,
        reason=f"the validation loss rose by {rise:.1%} since its best, {best:.2f} at step {step:,}",
        recommendation="train for fewer epochs, or end earlier (`patience`)",
    )


def _since_best(curves: _Curves) -> _Sign:
    since = len(curves.validation) - 1 - curves.best
    share = since / len(curves.validation)
    return _Sign(
        strength=_ramp(share, 0.2, 0.7) if since > 1 else 0.0,
        weight=0.35,
        reason=f"{since} of {len(curves.validation)} validations came after the best one",
        recommendation="train for fewer epochs, or end earlier (`patience`)",
    )


def _near_zero(curves: _Curves) -> _Sign:
    """Of tokens. The loss of preferences, which starts at ln 2, may well come down to little."""
    train = curves.train[-1]
    return _Sign(
        strength=_ramp(-train, -0.6, -0.1) if curves.highest > OF_TOKENS else 0.0,
        weight=0.6,
        reason=f"a training loss of {train:.2f} nats a token is near zero: the corpus is being learned by heart",
        recommendation="look for near copies in the corpus, and lower the weight of small datasets in the mixture",
    )


def _few_tokens(parameters: int, tokens: int, epochs: float) -> _Sign:
    """A prior, not evidence: small on its own."""
    each = tokens / max(1, parameters)
    return _Sign(
        strength=_ramp(-math.log10(max(each, 1e-9)), 0.0, 2.0) * _ramp(epochs, 1.0, 2.0 * REPEATS),
        weight=0.3,
        reason=f"{tokens:,} tokens for {parameters:,} trained parameters, passed over {epochs:.3g} times (beyond "
        f"{REPEATS} passes text teaches little more)",
        recommendation="widen the window of months, choose a smaller preset, or train adapters (LoRA) alone",
    )


def _ramp(value: float, none: float, full: float) -> float:
    """0 up to `none`, 1 from `full` on, a line between them."""
    return min(1.0, max(0.0, (value - none) / (full - none)))
