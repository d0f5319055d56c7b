"""Times of answers, with what else a machine may do in between."""

from itertools import cycle
from types import SimpleNamespace
from typing import Any

import pytest

from theta_ml.evaluation.guardrails import latency


def test_what_slows_single_answers_is_not_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    models: Any = [SimpleNamespace(seconds=0.01), SimpleNamespace(seconds=0.02)]
    slowed = cycle([5.0, 1.0, 3.0, 1.0, 1.0, 4.0, 1.0])  # a neighbour's load, of no period that the turns share
    monkeypatch.setattr(latency, "_answer", lambda model, _: model.seconds * next(slowed))
    assert latency.seconds_per_token(models) == pytest.approx([0.01, 0.02])
