"""A bucket of a real server: what is sent and fetched, and what half of it leaves."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.s3_server import keys, s3_client
from theta_ml.stage import StageRetry
from theta_ml.store import DOCUMENT, MARKER, STALE_SECONDS, ArtifactDamaged, ArtifactMissing, ErasedMeanwhile, Store
from theta_ml.store import copies as copies_module
from theta_ml.store import store as store_module

KEY = "0" * 32
SMALL, LARGE = 40, 48 << 20
"""Files of a few bytes, and the bytes of one that travels by parts."""
_WRITER = """
import itertools, sys, threading
from pathlib import Path
from theta_ml.store import Store
from tests.store.test_bucket import KEY, fill

store, moment, puts = Store(sys.argv[1], Path(sys.argv[2])), sys.argv[3], itertools.count(1)
call, put = store.fs.call_s3, store.fs.put_file

def hang():  # until it is killed
    threading.Event().wait()

def some_parts(method, *args, **kwargs):
    if method == "upload_part" and moment == "some parts" and kwargs["PartNumber"] > 2:
        hang()
    return call(method, *args, **kwargs)

def some_files(*args, **kwargs):
    if moment == "first files" and next(puts) > 6:
        hang()
    return put(*args, **kwargs)

store.fs.call_s3, store.fs.put_file = some_parts, some_files
with store.writing("snapshot", KEY) as path:
    fill(path)
    print("made", flush=True)
"""
_READER = """
import itertools, sys, threading
from pathlib import Path
from theta_ml.store import Store
from theta_ml.store.multipart import PART
from tests.store.test_bucket import KEY

store, moment, gets = Store(sys.argv[1], Path(sys.argv[2])), sys.argv[3], itertools.count(1)
cat, get = store.fs.cat_file, store.fs.get_file

def hang():  # until it is killed
    threading.Event().wait()

def some_parts(path, start=None, **kwargs):
    if moment == "some parts" and start is not None and start >= 2 * PART:
        hang()
    return cat(path, start=start, **kwargs)

def some_files(*args, **kwargs):
    if moment == "first files" and next(gets) > 6:
        hang()
    return get(*args, **kwargs)

store.fs.cat_file, store.fs.get_file = some_parts, some_files
store.find("snapshot", KEY).path
"""


def fill(path: Path) -> None:
    """The same each time."""
    drawn = random.Random(1)
    (path / DOCUMENT).write_text(json.dumps({"value": {"month": "2026-01"}}))
    (path / "part").mkdir()
    for number in range(SMALL):
        (path / "part" / f"{number}.bin").write_bytes(drawn.randbytes(2000))
    (path / "large.bin").write_bytes(drawn.randbytes(LARGE + 7))


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.fixture
def filled(tmp_path: Path) -> dict[str, bytes]:
    (tmp_path / "as-made").mkdir()
    fill(tmp_path / "as-made")
    return contents(tmp_path / "as-made")


@pytest.fixture
def store(bucket: str, tmp_path: Path) -> Store:
    return Store(f"{bucket}/artifacts", tmp_path / "cache")


def elsewhere(store: Store, tmp_path: Path) -> Store:
    """The same store, seen from another machine."""
    return Store(store.root.url, tmp_path / f"elsewhere-{time.monotonic_ns()}")


def start(script: str, store: Store, moment: str) -> "subprocess.Popen[str]":
    """One that gets as far as `moment` and hangs there."""
    command = [sys.executable, "-c", script, store.root.url, str(store.cache), moment]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kill_when(child: "subprocess.Popen[str]", ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not ready():
        assert child.poll() is None and time.monotonic() < deadline, "the moment to kill it never came"
        time.sleep(0.005)  # another process's work says nothing as it goes on
    os.kill(child.pid, signal.SIGKILL)
    child.wait()


@pytest.fixture
def travelled(monkeypatch: pytest.MonkeyPatch, store: Store) -> list[tuple[str, str]]:
    """What this process sends and fetches: (how, name), parts by number or first byte. All stores share one client."""
    seen: list[tuple[str, str]] = []
    call, put, cat, get = (getattr(store.fs, name) for name in ("call_s3", "put_file", "cat_file", "get_file"))

    def called(method: str, *args: Any, **kwargs: Any) -> Any:
        if method == "upload_part":
            seen.append(("part", str(kwargs["PartNumber"])))
        return call(method, *args, **kwargs)

    def sent(path: str, *args: Any, **kwargs: Any) -> Any:
        seen.append(("put", Path(path).name))
        return put(path, *args, **kwargs)

    def read(path: str, start: int | None = None, **kwargs: Any) -> Any:
        if start is not None:
            seen.append(("range", str(start)))
        return cat(path, start=start, **kwargs)

    def fetched(path: str, *args: Any, **kwargs: Any) -> Any:
        seen.append(("get", path.rpartition("/")[2]))
        return get(path, *args, **kwargs)

    for name, function in {"call_s3": called, "put_file": sent, "cat_file": read, "get_file": fetched}.items():
        monkeypatch.setattr(store.fs, name, function)
    return seen


def test_files_travel_together_and_arrive_as_they_left(
    store: Store, tmp_path: Path, filled: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = {name: _counted(monkeypatch, store, name) for name in ("put_file", "get_file")}
    with store.writing("snapshot", KEY) as path:
        fill(path)
    found = elsewhere(store, tmp_path).find("snapshot", KEY)
    assert found is not None
    assert contents(found.path) == filled
    assert all(max(counts) >= 4 for counts in at_once.values())
    marker = json.loads(store.root.read(f"{store.base}/snapshot/{KEY}/{MARKER}") or b"")
    assert set(marker["files"]) == set(filled) and all(len(file["sha256"]) == 64 for file in marker["files"].values())


def _counted(monkeypatch: pytest.MonkeyPatch, store: Store, name: str) -> list[int]:
    """How many calls were under way when each began."""
    inner, counts, lock, under_way = getattr(store.fs, name), list[int](), threading.Lock(), set[int]()

    def counted(*args: Any, **kwargs: Any) -> Any:
        with lock:
            under_way.add(threading.get_ident())
            counts.append(len(under_way))
        try:
            return inner(*args, **kwargs)
        finally:
            with lock:
                under_way.remove(threading.get_ident())

    monkeypatch.setattr(store.fs, name, counted)
    return counts


@pytest.mark.parametrize("moment", ["first files", "some parts"])
def test_an_upload_that_was_killed_goes_on(
    store: Store, tmp_path: Path, filled: dict[str, bytes], travelled: list[tuple[str, str]], moment: str
) -> None:
    bucket = store.root.url
    child = start(_WRITER, store, moment)
    name = bucket.removeprefix("s3://").partition("/")[0]
    kill_when(child, lambda: len(_parts(name)) >= 2 if moment == "some parts" else len(keys(bucket)) >= 4)
    there, parts = {key.rpartition("/")[2] for key in keys(bucket)}, _parts(name)
    assert elsewhere(store, tmp_path).find("snapshot", KEY) is None  # half an upload is nothing
    with pytest.raises(ArtifactMissing, match="theta stage snapshot"):
        elsewhere(store, tmp_path).open(store.uri("snapshot", KEY))
    travelled.clear()
    found = Store(bucket, store.cache).find("snapshot", KEY)  # nothing is made anew
    assert found is not None
    sent = {name for how, name in travelled if how == "put"}
    assert not sent & there and len(there) + len(sent) >= SMALL
    assert not {int(number) for how, number in travelled if how == "part"} & parts
    assert contents(elsewhere(store, tmp_path).open(found.uri).path) == filled
    assert not list((store.cache / ".partial").glob("snapshot-*"))


def _parts(bucket: str) -> set[int]:
    """Of unfinished uploads."""
    s3, found = s3_client(), set[int]()
    for upload in s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
        listed = s3.list_parts(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        found |= {part["PartNumber"] for part in listed.get("Parts", [])}
    return found


@pytest.mark.parametrize("moment", ["first files", "some parts"])
def test_a_download_that_was_killed_goes_on(
    store: Store, filled: dict[str, bytes], travelled: list[tuple[str, str]], moment: str, tmp_path: Path
) -> None:
    with store.writing("snapshot", KEY) as path:
        fill(path)
    reader = elsewhere(store, tmp_path)
    copy = reader.cache / "snapshot" / KEY
    child = start(_READER, reader, moment)
    kill_when(child, lambda: len(_ranges(copy)) >= 2 if moment == "some parts" else len(_whole(copy)) >= 4)
    there, ranges = _whole(copy), _ranges(copy)
    travelled.clear()
    found = Store(store.root.url, reader.cache).find("snapshot", KEY)
    assert found is not None
    assert contents(found.path) == filled
    assert not {name for how, name in travelled if how == "get"} & there
    assert not {first for how, first in travelled if how == "range"} & ranges
    travelled.clear()
    assert contents(Store(store.root.url, reader.cache).open(found.uri).path) == filled
    assert not travelled  # what is there and unchanged is not fetched


def _whole(copy: Path) -> set[str]:
    return {path.name for path in copy.rglob("*") if path.is_file() and not path.name.startswith(".")}


def _ranges(copy: Path) -> set[str]:
    return {line for path in copy.rglob(".*.done") for line in path.read_text().split()}


def test_whenever_a_writer_is_killed_there_is_all_or_nothing(
    store: Store, tmp_path: Path, filled: dict[str, bytes]
) -> None:
    drawn = random.Random(os.getpid())
    for _ in range(2):
        child = start(_WRITER, store, "no matter when")
        assert child.stdout and child.stdout.readline() == "made\n"
        time.sleep(drawn.uniform(0, 0.6))
        child.kill()
        child.wait()
        found = elsewhere(store, tmp_path).find("snapshot", KEY)
        assert found is None or contents(found.path) == filled
    found = Store(store.root.url, store.cache).find("snapshot", KEY)
    assert found is not None and contents(found.path) == filled


def small(store: Store, text: str = "hello") -> str:
    with store.writing("snapshot", KEY) as path:
        (path / DOCUMENT).write_text("{}")
        (path / "data.txt").write_text(text)
    return store.uri("snapshot", KEY)


def damage(store: Store, text: bytes | None) -> str:
    """Puts `text` in place of data.txt, or nothing; its key."""
    bucket = store.root.url.removeprefix("s3://").partition("/")[0]
    key = next(key for key in keys(store.root.url) if key.endswith("data.txt"))
    if text is None:
        s3_client().delete_object(Bucket=bucket, Key=key)
    else:
        s3_client().put_object(Bucket=bucket, Key=key, Body=text)
    return key


def test_an_object_that_is_not_what_was_written_is_not_read(store: Store, tmp_path: Path) -> None:
    uri = small(store)
    key = damage(store, b"hallo")
    reader = elsewhere(store, tmp_path)
    opened = reader.open(uri)
    with pytest.raises(ArtifactDamaged, match=r"data\.txt is not what was written.*theta stage snapshot") as told:
        _ = opened.path
    assert key.rpartition("/")[0] in str(told.value) and f"remove {uri} " in str(told.value)
    assert not (reader.cache / "snapshot" / KEY / "data.txt").exists()
    store.fs.rm(uri, recursive=True)
    assert store.find("snapshot", KEY) is None
    small(store)
    assert (reader.open(uri).path / "data.txt").read_text() == "hello"


@pytest.mark.parametrize("left", [b"hel", None])
def test_what_is_cut_short_or_gone_is_made_anew(store: Store, tmp_path: Path, left: bytes | None) -> None:
    uri = small(store)
    damage(store, left)
    with pytest.raises(ArtifactMissing, match="theta stage snapshot"):
        elsewhere(store, tmp_path).open(uri)
    assert store.find("snapshot", KEY) is None
    small(store)
    assert (elsewhere(store, tmp_path).open(uri).path / "data.txt").read_text() == "hello"


def _rewrite(file: Path) -> None:
    file.write_text("hallo")


def _cut(file: Path) -> None:
    os.truncate(file, 2)


@pytest.mark.parametrize("change", [_rewrite, _cut, Path.unlink])
def test_a_copy_that_was_changed_is_fetched_anew(
    store: Store, travelled: list[tuple[str, str]], change: Callable[[Path], Any]
) -> None:
    uri = small(store)
    path = store.open(uri).path
    change(path / "data.txt")
    travelled.clear()
    assert (Store(store.root.url, store.cache).open(uri).path / "data.txt").read_text() == "hello"
    assert travelled == [("get", "data.txt")]


def test_two_machines_that_make_one_key_leave_one_of_the_two(store: Store, tmp_path: Path) -> None:
    stores = [elsewhere(store, tmp_path) for _ in range(4)]
    ready = threading.Barrier(4)

    def write(number: int) -> None:
        with stores[number].writing("snapshot", KEY) as path:
            (path / DOCUMENT).write_text("{}")
            for name in "abc":
                (path / name).write_text(str(number))
            ready.wait(60)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = store.find("snapshot", KEY)
    assert found is not None
    assert len({(found.path / name).read_text() for name in "abc"}) == 1
    assert len({key.split("/")[-2] for key in keys(store.root.url) if key.endswith("a")}) == 1


def test_what_a_killed_writer_left_in_the_bucket_is_swept_in_time(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = small(store)
    for folder in ("0123456789abcdef", "fedcba9876543210"):
        store.root.write(f"{store.base}/snapshot/{KEY}/{folder}/data.txt", b"half")
    assert store.sweep() == 0
    bucket, _, base = store.base.partition("/")
    s3_client().create_multipart_upload(Bucket=bucket, Key=f"{base}/snapshot/other/0123456789abcdef/large.bin")
    monkeypatch.setattr(store_module, "STALE_SECONDS", -60)
    assert STALE_SECONDS > 0 and store.sweep() == 3
    assert len(keys(store.root.url)) == 4  # two files, the marker, and that the bucket can be written to
    assert (elsewhere(store, tmp_path).open(uri).path / "data.txt").read_text() == "hello"


def test_another_machine_gives_up_its_copy_of_what_was_erased_from(store: Store, tmp_path: Path) -> None:
    uri = small(store, "to be erased")
    reader = elsewhere(store, tmp_path)
    copy = reader.open(uri).path
    with store.rewriting(uri) as files, files.replacing("data.txt") as new:
        new.write_text("gone")
    store.begin_erasure()
    assert Store(store.root.url, reader.cache).find("train", "any") is None
    assert not copy.exists()
    assert (reader.open(uri).path / "data.txt").read_text() == "gone"


def test_an_eraser_that_comes_as_the_marker_is_about_to_be_set_wins(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, mark = elsewhere(store, tmp_path), store._mark

    def late(place: str, marker: Any) -> None:
        other.begin_erasure()
        assert other.places("snapshot") == [store.uri("snapshot", KEY)]
        with other.rewriting(store.uri("snapshot", KEY)) as files:
            assert DOCUMENT not in files.names()  # torn, as far as an eraser can see
            files.remove()
        mark(place, marker)
        assert other.find("snapshot", KEY) is None  # it tells of files that are gone

    monkeypatch.setattr(store, "_mark", late)
    with pytest.raises(ErasedMeanwhile):
        small(store)
    assert other.places("snapshot") == [] and not list((store.cache / ".partial").glob("snapshot-*"))


def test_what_could_not_be_sent_waits_and_is_not_sent_after_an_erasure(store: Store, tmp_path: Path) -> None:
    def away(*args: object) -> None:
        raise StageRetry("the server is away")

    for erased in (False, True):
        key = f"{int(erased)}" * 32
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(store_module, "send", away)
            with pytest.raises(StageRetry), store.writing("snapshot", key) as path:
                (path / DOCUMENT).write_text("{}")
        if erased:
            elsewhere(store, tmp_path).begin_erasure()
        assert (Store(store.root.url, store.cache).find("snapshot", key) is None) == erased
        assert not list((store.cache / ".partial").glob("snapshot-*"))


def test_copies_that_nobody_reads_leave_a_full_disk(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("unused", "used", "new"):
        with store.writing("train", key) as path:
            (path / DOCUMENT).write_text("{}")
    reader = elsewhere(store, tmp_path)
    unused, used = (reader.open(store.uri("train", key)).path for key in ("unused", "used"))
    os.close(copies_module._IN_USE.pop(unused))  # as when the process that read it has ended
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(total=100, free=1))
    new = reader.open(store.uri("train", "new")).path
    assert not unused.exists() and (used / DOCUMENT).exists() and (new / DOCUMENT).exists()
