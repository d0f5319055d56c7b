"""Artifacts: directories named by content key, under any fsspec root, that exist whole or not at all."""

import fcntl
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import fsspec

DOCUMENT = "artifact.json"
MARKER = "_COMPLETE"
STALE_SECONDS = 14 * 24 * 3600
"""No stage writes for longer."""
ERASED = "_ERASED.json"
"""Beside the files of an artifact from which conversations were erased: when, by which erasures, how many; no ids."""
HOLDING = ("snapshot", "pack", "prepare")
"""Stages whose artifacts hold what people said."""
MEASURING = ("digest", "extract", "spool")
"""Whose artifacts hold numbers and word hashes of single conversations, or parts of a snapshot or unit until that is
made: an erasure throws them away."""
_EPOCH = "_ERASURES"
"""At the root: changes with every attempt to erase."""


class ArtifactMissing(Exception):
    """No complete artifact at this address; the message says which stage makes it."""


class ErasedMeanwhile(Exception):
    """Conversations were erased while an artifact was made that may hold them: it is thrown away, make it again."""


@dataclass(frozen=True)
class Artifact:
    """A stage's finished output, on local disk."""

    stage: str
    key: str
    uri: str
    path: Path
    document: dict[str, Any]
    """`artifact.json`: stage, version, spec, inputs (stage → key) and `value`, the noun's fields."""


class Store:
    """`root/STAGE/KEY/`: written elsewhere, moved into place, its marker last."""

    def __init__(self, root: str, cache: Path) -> None:
        """`root` is any fsspec URL or a folder; `cache` receives local copies of what lies in a bucket."""
        self.fs, base = fsspec.core.url_to_fs(root)
        self.base = str(base).rstrip("/")
        self.local = "file" in _protocols(self.fs)
        self.cache = cache
        self._epoch: bytes | None = None
        """As it was before anything was read."""

    def watch_erasures(self) -> None:
        """From here on, an erasure that begins keeps what is written from being published (ErasedMeanwhile)."""
        self._note_epoch()

    def uri(self, stage: str, key: str) -> str:
        return str(self.fs.unstrip_protocol(f"{self.base}/{stage}/{key}"))

    def find(self, stage: str, key: str) -> Artifact | None:
        """The finished output of this stage under this key, or None."""
        place = f"{self.base}/{stage}/{key}"
        self._note_epoch()
        return self._open(place) if self.fs.exists(f"{place}/{MARKER}") else None

    def open(self, uri: str) -> Artifact:
        """Raises ArtifactMissing where nothing complete lies at `uri`."""
        place = self._place(uri)
        self._note_epoch()
        if not self.fs.exists(f"{place}/{MARKER}"):
            stage = place.rsplit("/", 2)[-2] if place.count("/") >= 2 else "NAME"
            raise ArtifactMissing(f"no complete artifact at {uri}; `theta stage {stage}` makes it")
        return self._open(place)

    @contextmanager
    def writing(self, stage: str, key: str, started: float | None = None) -> Iterator[Path]:
        """An empty directory that becomes the artifact when the block ends well, and vanishes otherwise.

        `started` is when the work on it began, in seconds since 1970; now, where not given.
        """
        parent = self._partial
        parent.mkdir(parents=True, exist_ok=True)
        _sweep(parent)
        path = parent / f"{stage}-{key}-{uuid.uuid4().hex[:8]}"
        path.mkdir()
        times = {"started": started or time.time()}
        self._note_epoch()
        try:
            with _held(path):
                yield path
                times["finished"] = time.time()
                # One after the other: what has no marker is then torn, and no other writer's who is about to set it.
                with _held(parent) if self.local else nullcontext():
                    self._publish(path, f"{self.base}/{stage}/{key}", times, stage in HOLDING + MEASURING)
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def made(self, artifact: Artifact) -> tuple[float, float]:
        """When the work on it began and ended, in seconds since 1970; in the marker, for no content depends on it."""
        times = json.loads(self.fs.cat_file(f"{self._place(artifact.uri)}/{MARKER}"))
        return times["started"], times["finished"]

    def places(self, stage: str) -> list[str]:
        """URIs of all that lies under the stage's name, complete or not."""
        self.fs.invalidate_cache()
        folder = f"{self.base}/{stage}"
        names = self.fs.ls(folder, detail=False) if self.fs.exists(folder) else []
        return sorted(self.uri(stage, str(name).rstrip("/").rpartition("/")[2]) for name in names)

    def document(self, uri: str) -> dict[str, Any] | None:
        """`artifact.json` of what lies there, complete or not; None where it has none."""
        text = self._read(f"{self._place(uri)}/{DOCUMENT}")
        return json.loads(text) if text else None

    def names(self, uri: str) -> set[str]:
        """Of all files of what lies there, as paths in it; none where nothing lies there."""
        self.fs.invalidate_cache()
        place = self._place(uri)
        return {str(name)[len(place) + 1 :] for name in self.fs.find(place)}

    def size(self, uri: str, but: Collection[str] = ()) -> int:
        """Bytes of the files of what lies there, but for these."""
        place = self._place(uri)
        return sum(self.fs.size(f"{place}/{name}") for name in self.names(uri) if name not in but)

    def rewriting(self, uri: str) -> "Rewriting":
        """To change the files of an artifact that is there."""
        return Rewriting(self, self._place(uri))

    def begin_erasure(self) -> None:
        """From here on, who has read anything before publishes nothing that holds conversations (ErasedMeanwhile).

        Whatever is published all the same was in its place before this call: who looks at all `places` now sees it.
        """
        self.fs.makedirs(self.base, exist_ok=True)
        self._epoch = uuid.uuid4().hex.encode()
        self.fs.pipe_file(f"{self.base}/{_EPOCH}", self._epoch)

    def abandoned(self) -> list[Path]:
        """Directories in which killed writers on this machine left what may hold conversations."""
        left = [path for stage in HOLDING + MEASURING for path in self._partial.glob(f"{stage}-*-*")]
        return [path for path in left if not _is_held(path)]

    def forget_copy(self, uri: str) -> bool:
        """Removes this machine's copies of what lies in a bucket; whether there were any."""
        stage, key = self._place(uri).rsplit("/", 2)[-2:]
        copies = [] if self.local else [*(self.cache / stage).glob(key), *(self.cache / stage).glob(f"{key}.*.partial")]
        for copy in copies:
            shutil.rmtree(copy, ignore_errors=True)
        return bool(copies)

    @property
    def _partial(self) -> Path:
        """Where artifacts are written before they are moved or uploaded."""
        return Path(self.base) / ".partial" if self.local else Path(tempfile.gettempdir()) / f"theta-{os.getuid()}"

    def _publish(self, path: Path, place: str, times: dict[str, float], holding: bool) -> None:
        if self.fs.exists(f"{place}/{MARKER}"):
            return  # somebody finished the same work first; the same key means the same content
        if self.fs.exists(place):
            self.fs.rm(place, recursive=True)  # half an output of an attempt that was killed
        if self.local:
            Path(place).parent.mkdir(parents=True, exist_ok=True)
            path.rename(place)
        else:
            self.fs.put(str(path), place, recursive=True)
        if holding and self._epoch != self._read(f"{self.base}/{_EPOCH}"):  # when all is there, see begin_erasure
            self.fs.rm(place, recursive=True)
            self._epoch = None
            raise ErasedMeanwhile(f"{place}: conversations were erased while it was made; make it again without them")
        self.fs.pipe_file(f"{place}/{MARKER}", json.dumps(times).encode())

    def _note_epoch(self) -> None:
        if self._epoch is None:
            self._epoch = self._read(f"{self.base}/{_EPOCH}")

    def _read(self, place: str) -> bytes:
        """Nothing where there is no such file."""
        try:
            return bytes(self.fs.cat_file(place))
        except FileNotFoundError:
            return b""

    def _place(self, uri: str) -> str:
        return str(self.fs._strip_protocol(uri)).rstrip("/")

    def _open(self, place: str) -> Artifact:
        stage, key = place.rsplit("/", 2)[-2:]
        path = Path(place) if self.local else self._download(place, self.cache / stage / key)
        document = json.loads((path / DOCUMENT).read_text())
        return Artifact(stage, key, self.uri(stage, key), path, document)

    def _download(self, place: str, path: Path) -> Path:
        mark = path / ERASED
        kept = mark.read_bytes() if mark.exists() else b""
        if not (path / MARKER).exists() or kept != self._read(f"{place}/{ERASED}"):
            partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.partial")
            self.fs.get(place, str(partial), recursive=True)
            shutil.rmtree(path, ignore_errors=True)
            partial.rename(path)
        return path


class Rewriting:
    """An artifact's files, to be changed one at a time; each change is made whole or not at all, or can be repeated."""

    def __init__(self, store: Store, place: str) -> None:
        self.store, self.place = store, place
        self._copies = None if store.local else tempfile.TemporaryDirectory(prefix="theta-rewriting-")
        self.folder = Path(place) if self._copies is None else Path(self._copies.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._copies:
            self._copies.cleanup()

    def names(self) -> list[str]:
        """Of its files."""
        self.store.fs.invalidate_cache()
        return sorted(str(name).rpartition("/")[2] for name in self.store.fs.ls(self.place, detail=False))

    def path(self, name: str) -> Path:
        """The file, or a copy of what lies in a bucket."""
        path = self.folder / name
        if self._copies and not path.exists():
            self.store.fs.get_file(f"{self.place}/{name}", str(path))
        return path

    def open(self, name: str) -> IO[bytes]:
        """The file where it lies: of what is in a bucket only those parts travel that are read."""
        return self.store.fs.open(f"{self.place}/{name}", "rb")

    def edited(self, name: str) -> None:
        """The file at `path(name)` was changed in place: who has it mapped sees the change."""
        path = self.folder / name
        if self._copies:
            self.store.fs.put_file(str(path), f"{self.place}/{name}")
        else:
            to_disk(path)

    @contextmanager
    def replacing(self, name: str) -> Iterator[Path]:
        """Where the new file is to be written; it takes the old one's place at the end of the block."""
        new = self.folder / f".{name}.new"
        yield new
        to_disk(new)
        new.replace(self.folder / name)
        if self._copies:
            self.store.fs.put_file(str(self.folder / name), f"{self.place}/{name}")
        else:
            to_disk(self.folder)

    def remove_unfinished(self) -> None:
        """What a killed rewriter left."""
        for name in self.names():
            if name.startswith(".") and name.endswith(".new"):
                self.store.fs.rm(f"{self.place}/{name}")

    def strip(self, kept: Collection[str]) -> None:
        """All but the files `kept`, its marker first: from then on nobody finds it, but it is told what it was."""
        names = self.names() if self.store.fs.exists(self.place) else []
        for name in sorted(names, key=lambda name: name != MARKER):
            if name not in kept:
                self.store.fs.rm(f"{self.place}/{name}", recursive=True)

    def remove(self) -> None:
        """The whole artifact, its marker first."""
        for name in (MARKER, ""):
            if self.store.fs.exists(f"{self.place}/{name}"):
                self.store.fs.rm(f"{self.place}/{name}".rstrip("/"), recursive=True)


def to_disk(path: Path) -> None:
    """Waits until a file, or a folder's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Tells others that its writer lives; the kernel forgets it when it dies."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_held(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _sweep(parent: Path) -> None:
    """Removes what writers left that were killed long ago."""
    for left in parent.iterdir():
        try:
            if time.time() - left.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
        except FileNotFoundError:
            continue  # its writer has just finished


def _protocols(fs: fsspec.AbstractFileSystem) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
