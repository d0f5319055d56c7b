"""Redaction finds what people marked in the benchmark's texts."""

from pathlib import Path

import pytest

from theta_ml.privacy.measure import Score, _count, measure

GOLD = Path(__file__).parents[3] / "shared" / "data" / "pii" / "presidio_synth_v2.jsonl.gz"


@pytest.mark.skipif(not GOLD.exists(), reason=f"no benchmark at {GOLD}")
def test_recall_and_precision_on_gold_spans() -> None:
    scores = measure(GOLD)
    for kind in ("EMAIL", "CARD", "IBAN", "IP", "URL", "SSN"):
        assert scores[kind].recall >= 0.97, kind
        assert scores[kind].precision >= 0.97, kind
    assert scores["PHONE"].recall >= 0.95
    assert scores["PHONE"].precision >= 0.85
    assert scores["ADDRESS"].recall > 0.5
    assert min(scores["ADDRESS"].precision, scores["NAME"].precision) > 0.97


def test_a_part_of_a_card_is_no_find_and_half_an_address_is_right() -> None:
    from collections import Counter

    totals: Counter[tuple[str, str]] = Counter()
    text = "4111 1111 1111 1111, Elm Street 5 Boston"
    _count(
        totals, text, [("CARD", 0, 19), ("ADDRESS", 21, 33)], [("CARD", 0, 9), ("ADDRESS", 21, 40), ("NAME", 34, 40)]
    )
    scores = {kind: Score(*(totals[kind, what] for what in Score._fields)) for kind in ("CARD", "ADDRESS", "NAME")}
    assert scores == {"CARD": Score(1, 0, 1, 1), "ADDRESS": Score(1, 1, 1, 1), "NAME": Score(0, 0, 1, 0)}
