"""What was measured of conversations goes with an erasure."""

from pathlib import Path
from typing import Any

import pytest

from tests.lineage.house import SECRETS, House, id_in, noted, plain
from theta_ml.lineage import erase as erase_module
from theta_ml.lineage.holdings import erase_from, forget_measured
from theta_ml.settings import Settings
from theta_ml.store import DOCUMENT, MEASURING, ErasedMeanwhile, Store


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


def test_parts_of_what_was_not_clean_yet_do_not_bring_it_back(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs go on meanwhile: one makes parts as a kind begins to be scrubbed, another would take them after it."""
    house = House(Settings(home=tmp_path / "home", database_url=database_url))  # type: ignore[arg-type]
    house.settings.home.mkdir()
    house.land([*plain("2026-01", 90), noted(id_in("train"))])
    house.prepare(house.snapshot("2026-01", "r1").uri, "2026-01")
    made_of = {"snapshot": "spool", "pack": "extract"}
    left: list[tuple[str, set[str]]] = []

    def meanwhile(store: Store, stage: str, *arguments: Any) -> Any:
        parts = {each for each in MEASURING if house.store.places(each)}
        left.append((stage, parts))
        if stage in made_of:
            with house.store.writing(made_of[stage], "k") as path:
                (path / "text").write_text(SECRETS[0])
        return erase_from(store, stage, *arguments)

    with house.store.writing("extract", "k") as path:  # of the landing zone as it was
        (path / "text").write_text(SECRETS[0])
    monkeypatch.setattr(erase_module, "erase_from", meanwhile)
    house.erase("conversation", id_in("train"))
    assert left == [("snapshot", set()), ("pack", set()), ("prepare", set())]
    assert house.found_in(*SECRETS) == []
