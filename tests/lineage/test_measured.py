"""What was measured of conversations goes with an erasure."""

from pathlib import Path

import pytest

from theta_ml.lineage.holdings import forget_measured
from theta_ml.store import DOCUMENT, ErasedMeanwhile, Store


def test_digests_are_thrown_away_and_none_made_before_is_published(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "artifacts"), tmp_path / "cache")
    with store.writing("digest", "one") as folder:
        (folder / DOCUMENT).write_text("{}")
    eraser = Store(str(tmp_path / "artifacts"), tmp_path / "cache")
    with pytest.raises(ErasedMeanwhile), store.writing("digest", "two") as folder:
        (folder / DOCUMENT).write_text("{}")
        eraser.begin_erasure()
        assert forget_measured(eraser) == 1
    assert store.find("digest", "one") is None and store.places("digest") == []
    assert forget_measured(eraser) == 0
