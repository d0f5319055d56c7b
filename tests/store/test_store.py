import json
import os
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from theta_ml.store import DOCUMENT, ERASED, MARKER, STALE_SECONDS, ArtifactMissing, ErasedMeanwhile, Store
from theta_ml.store import spool as spool_module
from theta_ml.store.disk import held

KEY = "0" * 32


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    roots = {"folder": str(tmp_path / "artifacts"), "memory": f"memory://{tmp_path.name}"}
    root = roots.get(request.param) or f"{request.getfixturevalue('bucket')}/artifacts"
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


def test_two_writers_who_finish_at_once_do_not_remove_each_others_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (Store(str(tmp_path), tmp_path / name) for name in ("a", "b"))
    other, read = threading.Thread(target=write, args=(second, "second")), first.root.read

    def meanwhile(place: str) -> bytes | None:
        if (tmp_path / "snapshot" / KEY).exists() and not other.ident:  # moved there, not marked yet
            other.start()
            other.join(0.3)
        return read(place)

    monkeypatch.setattr(first.root, "read", meanwhile)
    write(first, "first")
    other.join()
    found = first.find("snapshot", KEY)
    assert found is not None
    assert (found.path / "data.txt").read_text() == "first"


def test_what_was_read_before_an_erasure_is_not_published_after_it(store: Store, tmp_path: Path) -> None:
    other = Store(str(store.fs.unstrip_protocol(store.base)), tmp_path / "other")
    with pytest.raises(ErasedMeanwhile, match="make it again"), store.writing("snapshot", KEY) as path:
        (path / DOCUMENT).write_text("{}")
        other.begin_erasure()
    assert store.places("snapshot") == []
    write(store)  # begun after it
    assert [uri.endswith(KEY) for uri in store.places("snapshot")] == [True]
    with store.writing("train", KEY) as path:  # weights hold no text, and cost hours
        (path / DOCUMENT).write_text("{}")
        other.begin_erasure()
    assert store.find("train", KEY)


def test_a_rewritten_artifact_is_what_everybody_reads(store: Store, tmp_path: Path) -> None:
    write(store)
    other = Store(str(store.fs.unstrip_protocol(store.base)), tmp_path / "other")
    uri = store.uri("snapshot", KEY)
    assert (other.open(uri).path / "data.txt").read_text() == "hello"
    with store.rewriting(uri) as files:
        with files.replacing("data.txt") as new:
            new.write_text("gone")
        with files.replacing(ERASED) as new:
            new.write_text("[]")
        assert ".data.txt.new" not in files.names()
    assert (other.open(uri).path / "data.txt").read_text() == "gone"
    with store.rewriting(uri) as files:
        files.remove()
    assert store.find("snapshot", KEY) is None and store.places("snapshot") == []


def test_a_stripped_artifact_still_tells_what_it_was(store: Store) -> None:
    write(store)
    uri = store.uri("snapshot", KEY)
    with store.writing("snapshot", "1" * 32) as path:
        (path / "model").mkdir()
        (path / "model" / "weights").write_text("gone")
        (path / DOCUMENT).write_text("{}")
    for _ in range(2):  # as after an attempt that was broken off
        with store.rewriting(uri) as files:
            files.strip(frozenset([DOCUMENT]))
    assert store.find("snapshot", KEY) is None and store.names(uri) == {DOCUMENT}
    assert store.document(uri) == {"value": {"month": "2026-01"}}
    assert store.size(store.uri("snapshot", "1" * 32), [DOCUMENT, MARKER]) == len("gone")


def test_only_what_dead_writers_left_is_abandoned(tmp_path: Path) -> None:
    store = Store(str(tmp_path), tmp_path / "cache")
    dead = tmp_path / ".partial" / f"pack-{KEY}-00000000"
    dead.mkdir(parents=True)
    with store.writing("prepare", KEY) as path:
        (path / DOCUMENT).write_text("{}")
        assert store.abandoned() == [dead]


def test_a_folder_that_has_just_been_made_is_nobodys_leftover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, seen = Store(str(tmp_path), tmp_path / "cache"), list[list[Path]]()

    def watched(path: Path) -> AbstractContextManager[None]:
        seen.append(store.abandoned())  # another process looks before it is locked
        return held(path)

    monkeypatch.setattr(spool_module, "held", watched)
    write(store)
    assert seen == [[]]
    assert [path.name for path in (tmp_path / ".partial").iterdir()] == []
