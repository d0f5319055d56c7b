"""Artifacts: directories named by content key, under any fsspec root, that exist whole or not at all."""

import json
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

DOCUMENT = "artifact.json"
MARKER = "_COMPLETE"
STALE_SECONDS = 14 * 24 * 3600
"""No stage writes for longer."""


class ArtifactMissing(Exception):
    """No complete artifact at this address; the message says which stage makes it."""


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

    def uri(self, stage: str, key: str) -> str:
        return str(self.fs.unstrip_protocol(f"{self.base}/{stage}/{key}"))

    def find(self, stage: str, key: str) -> Artifact | None:
        """The finished output of this stage under this key, or None."""
        place = f"{self.base}/{stage}/{key}"
        return self._open(place) if self.fs.exists(f"{place}/{MARKER}") else None

    def open(self, uri: str) -> Artifact:
        """Raises ArtifactMissing where nothing complete lies at `uri`."""
        place = self._place(uri)
        if not self.fs.exists(f"{place}/{MARKER}"):
            stage = place.rsplit("/", 2)[-2] if place.count("/") >= 2 else "NAME"
            raise ArtifactMissing(f"no complete artifact at {uri}; `theta stage {stage}` makes it")
        return self._open(place)

    @contextmanager
    def writing(self, stage: str, key: str, started: float | None = None) -> Iterator[Path]:
        """An empty directory that becomes the artifact when the block ends well, and vanishes otherwise.

        `started` is when the work on it began, in seconds since 1970; now, where not given.
        """
        parent = Path(self.base) / ".partial" if self.local else Path(tempfile.gettempdir())
        parent.mkdir(parents=True, exist_ok=True)
        if self.local:
            _sweep(parent)
        path = parent / f"{stage}-{key}-{uuid.uuid4().hex[:8]}"
        path.mkdir()
        times = {"started": started or time.time()}
        try:
            yield path
            self._publish(path, f"{self.base}/{stage}/{key}", times | {"finished": time.time()})
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def made(self, artifact: Artifact) -> tuple[float, float]:
        """When the work on it began and ended, in seconds since 1970; in the marker, for no content depends on it."""
        times = json.loads(self.fs.cat_file(f"{self._place(artifact.uri)}/{MARKER}"))
        return times["started"], times["finished"]

    def _publish(self, path: Path, place: str, times: dict[str, float]) -> None:
        if self.fs.exists(f"{place}/{MARKER}"):
            return  # somebody finished the same work first; the same key means the same content
        if self.fs.exists(place):
            self.fs.rm(place, recursive=True)  # half an output of an attempt that was killed
        if self.local:
            Path(place).parent.mkdir(parents=True, exist_ok=True)
            path.rename(place)
        else:
            self.fs.put(str(path), place, recursive=True)
        self.fs.pipe_file(f"{place}/{MARKER}", json.dumps(times).encode())

    def _place(self, uri: str) -> str:
        return str(self.fs._strip_protocol(uri)).rstrip("/")

    def _open(self, place: str) -> Artifact:
        stage, key = place.rsplit("/", 2)[-2:]
        path = Path(place) if self.local else self._download(place, self.cache / stage / key)
        document = json.loads((path / DOCUMENT).read_text())
        return Artifact(stage, key, self.uri(stage, key), path, document)

    def _download(self, place: str, path: Path) -> Path:
        if not (path / MARKER).exists():
            partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.partial")
            self.fs.get(place, str(partial), recursive=True)
            shutil.rmtree(path, ignore_errors=True)
            partial.rename(path)
        return path


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
