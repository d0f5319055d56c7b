"""What another process, another machine or an eraser does to a bucket between two steps of ours."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from tests.s3_server import keys, s3_client
from tests.store.test_bucket import KEY, elsewhere, small
from theta_ml.settings import SettingsError
from theta_ml.stage import StageRetry
from theta_ml.store import DOCUMENT, ErasedMeanwhile, Store
from theta_ml.store import copies as copies_module
from theta_ml.store import store as store_module
from theta_ml.store.copies import beside
from theta_ml.store.disk import held
from theta_ml.store.transfer import send


@pytest.fixture
def store(bucket: str, tmp_path: Path) -> Store:
    return Store(f"{bucket}/artifacts", tmp_path / "cache")


def test_a_copy_that_is_being_fetched_is_not_evicted(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes between the look at `.used` and the removal holds the lock, or waits for it and fetches anew."""
    for key in ("old", "new"):
        with store.writing("train", key) as path:
            (path / DOCUMENT).write_text("{}")
    reader = elsewhere(store, tmp_path)
    old = reader.open(store.uri("train", "old")).path
    os.close(copies_module._IN_USE.pop(old))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(total=100, free=1))
    with held(beside(old, ".lock")):
        assert reader.open(store.uri("train", "new")).path.exists() and old.exists()
    note = beside(old, ".copy.json")
    read = Path.stat

    def gone(path: Path, **kwargs: Any) -> os.stat_result:
        if path == note:
            note.unlink(missing_ok=True)  # another process has just taken it away
        return read(path, **kwargs)

    monkeypatch.setattr(Path, "stat", gone)
    reader._copies._make_room(1, tmp_path)


def test_an_erasure_that_ends_another_writers_work_does_not_let_ours_through(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What somebody could not send is thrown away; who found that has read before the erasure all the same."""

    def away(*args: object) -> None:
        raise StageRetry("the server is away")

    with monkeypatch.context() as patch, pytest.raises(StageRetry):
        patch.setattr(store_module, "send", away)
        small(store)
    ours = Store(store.root.url, store.cache)
    ours.watch_erasures()
    elsewhere(store, tmp_path).begin_erasure()
    assert ours.find("snapshot", KEY) is None
    with pytest.raises(ErasedMeanwhile):
        small(ours, "read before")
    small(ours, "read after")
    assert (ours.open(store.uri("snapshot", KEY)).path / "data.txt").read_text() == "read after"


@pytest.mark.parametrize("scrubbed", [False, True])
def test_a_late_writer_leaves_what_another_has_marked_but_not_over_what_was_scrubbed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scrubbed: bool
) -> None:
    other, uri = elsewhere(store, tmp_path), store.uri("snapshot", KEY)

    def then_another_comes(*args: Any) -> int:
        monkeypatch.setattr(store_module, "send", send)
        other.begin_erasure()
        small(other)  # begun after the erasure, and the very same
        if scrubbed:
            with other.rewriting(uri) as files, files.replacing("data.txt") as new:
                new.write_text("gone")
        return send(*args)

    monkeypatch.setattr(store_module, "send", then_another_comes)
    with pytest.raises(ErasedMeanwhile):
        small(store)
    left = elsewhere(store, tmp_path).find("snapshot", KEY)
    if scrubbed:
        assert left is None and not [key for key in keys(store.root.url) if KEY in key]
    else:
        assert left is not None and (left.path / "data.txt").read_text() == "hello"


def _all(file: Any) -> Any:
    return file.read()


@pytest.mark.parametrize("read", [_all, pq.read_table])
def test_a_bucket_that_goes_as_a_file_in_it_is_read_is_named(store: Store, read: Callable[[Any], Any]) -> None:
    with store.writing("snapshot", KEY) as path:
        (path / DOCUMENT).write_text("{}")
        pl.DataFrame({"conversation_id": ["a"]}).write_parquet(path / "data.parquet")
    uri, bucket = store.uri("snapshot", KEY), store.base.partition("/")[0]
    with (
        pytest.raises(SettingsError, match="no such bucket"),
        store.rewriting(uri) as files,
        files.open("data.parquet") as file,
    ):
        for key in keys(store.root.url):
            s3_client().delete_object(Bucket=bucket, Key=key)
        s3_client().delete_bucket(Bucket=bucket)
        read(file)
    s3_client().create_bucket(Bucket=bucket)
