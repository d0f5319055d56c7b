import json
import os
import time
from pathlib import Path

import pytest

from theta_ml.store import DOCUMENT, MARKER, STALE_SECONDS, ArtifactMissing, Store

KEY = "0" * 32


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    root = str(tmp_path / "artifacts") if request.param == "folder" else f"memory://{tmp_path.name}"
    return Store(root, tmp_path / "cache")


def write(store: Store, text: str = "hello") -> None:
    with store.writing("snapshot", KEY) as path:
        (path / DOCUMENT).write_text(json.dumps({"value": {"month": "2026-01"}}))
        (path / "data.txt").write_text(text)


def test_what_is_written_is_found_and_opened(store: Store) -> None:
    assert store.find("snapshot", KEY) is None
    write(store)
    found = store.find("snapshot", KEY)
    assert found is not None
    assert (found.path / "data.txt").read_text() == "hello"
    assert store.open(found.uri).document == {"value": {"month": "2026-01"}}
    started, finished = store.made(found)
    assert started <= finished


def test_a_failed_writer_leaves_nothing(store: Store, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), store.writing("snapshot", KEY) as path:
        (path / "data.txt").write_text("half")
        raise RuntimeError
    assert store.find("snapshot", KEY) is None
    assert not path.exists()


def test_half_an_output_is_not_read_and_is_replaced(tmp_path: Path) -> None:
    store = Store(str(tmp_path), tmp_path / "cache")
    half = tmp_path / "snapshot" / KEY
    half.mkdir(parents=True)
    (half / "data.txt").write_text("half")
    with pytest.raises(ArtifactMissing, match="theta stage snapshot"):
        store.open(str(half))
    write(store)
    assert (half / "data.txt").read_text() == "hello"
    assert (half / MARKER).exists()


def test_what_a_killed_writer_left_is_swept_in_time(tmp_path: Path) -> None:
    store = Store(str(tmp_path), tmp_path / "cache")
    old, fresh = (tmp_path / ".partial" / name for name in ("snapshot-old", "snapshot-fresh"))
    for left in (old, fresh):
        left.mkdir(parents=True)
    long_ago = time.time() - STALE_SECONDS - 1
    os.utime(old, (long_ago, long_ago))
    write(store)
    assert not old.exists()
    assert fresh.exists()


def test_the_first_of_two_writers_of_a_key_stays(store: Store) -> None:
    with store.writing("snapshot", KEY) as path:
        (path / DOCUMENT).write_text("{}")
        (path / "data.txt").write_text("second")
        write(store, "first")
    found = store.find("snapshot", KEY)
    assert found is not None
    assert (found.path / "data.txt").read_text() == "first"
