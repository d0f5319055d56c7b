"""What lies beside the store."""

import json
from pathlib import Path

from filelock import FileLock

from theta_ml.lineage.copies import count_in_feeds, remove_checkpoints, scrub_feeds
from theta_ml.settings import Settings
from theta_ml.store import DOCUMENT, Store


def test_simulated_feeds_lose_their_lines(tmp_path: Path) -> None:
    settings, folder = Settings(home=tmp_path), tmp_path / "simulated"
    folder.mkdir()
    lines = [json.dumps({"id": name, "messages": ["é"]}, ensure_ascii=False) + "\n" for name in ("a", "b", "a b")]
    torn = lines[0][:14] + "\n"
    (folder / "seed-7-2026-01.jsonl").write_text("".join([*lines, torn]) + "\n")
    assert count_in_feeds(settings, frozenset("a")) == scrub_feeds(settings, frozenset("a")) == 2
    assert (folder / "seed-7-2026-01.jsonl").read_text() == lines[1] + lines[2] + "\n"
    assert scrub_feeds(settings, frozenset("a")) == 0


def test_only_trainings_that_were_broken_off_begin_anew(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    store = Store(settings.artifacts, tmp_path / "cache")
    for key in ("done", "torn"):
        (tmp_path / "checkpoints" / key).mkdir(parents=True)
    (tmp_path / "tuning" / "study-1" / "3" / "step-8").mkdir(parents=True)
    with store.writing("train", "done") as path:
        (path / DOCUMENT).write_text("{}")
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "training.json").write_text('{"key": "torn"}')
    with FileLock(tmp_path / "locks" / "training.lock"):
        assert remove_checkpoints(settings, store) == (0, "torn")
    assert remove_checkpoints(settings, store) == (2, None)
    assert not list((tmp_path / "tuning" / "study-1").iterdir())
    assert [folder.name for folder in (tmp_path / "checkpoints").iterdir()] == ["done"]
