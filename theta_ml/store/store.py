"""The store: finds, opens and writes artifacts, and tells of an erasure to those who write meanwhile."""

import json
import re
import shutil
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

from theta_ml.store.artifact import (
    DOCUMENT,
    HOLDING,
    MARKER,
    MEASURING,
    Artifact,
    ArtifactMissing,
    ErasedMeanwhile,
)
from theta_ml.store.copies import Copies
from theta_ml.store.disk import held, write_whole
from theta_ml.store.marker import Marker
from theta_ml.store.multipart import abort
from theta_ml.store.rewriting import Rewriting
from theta_ml.store.root import Root
from theta_ml.store.spool import STALE_SECONDS, Made, Spool
from theta_ml.store.transfer import send

_EPOCH = "_ERASURES"
"""At the root: changes with every attempt to erase."""
_WRITABLE = "_WRITABLE"
"""At the root: whoever is about to work writes it first, for it would be a pity to learn afterwards that it cannot."""


class Store:
    """`root/STAGE/KEY/`: written elsewhere, moved into place or sent there, its marker last.

    Faults of a bucket are StageRetry or SettingsError, see `theta_ml.store.faults`.
    """

    def __init__(self, root: str, cache: Path) -> None:
        """`root` is any fsspec URL or a folder; `cache` receives local copies of what lies in a bucket, and what is on
        its way there."""
        self.root = Root(root)
        self.fs, self.base, self.local = self.root.fs, self.root.base, self.root.local
        self.cache = cache
        self._spool = Spool((Path(self.base) if self.local else cache) / ".partial")
        self._copies = Copies(self.root, cache)
        self._epoch: str | None = None
        """As it was before anything was read; None where nothing was read yet."""

    def uri(self, stage: str, key: str) -> str:
        return str(self.fs.unstrip_protocol(f"{self.base}/{stage}/{key}"))

    def find(self, stage: str, key: str) -> Artifact | None:
        """The finished output of this stage under this key, or None.

        What a writer of this machine made whole and could not send any more (it was killed, the bucket was away) is
        sent now.
        """
        place = f"{self.base}/{stage}/{key}"
        self._note_epoch()
        marker = self._whole(place)
        if marker is None and self._send_unsent(stage, key):
            marker = self._whole(place)
        return self._open(place, marker) if marker else None

    def watch_erasures(self) -> None:
        """From here on, an erasure that begins keeps what is written from being published (ErasedMeanwhile)."""
        self._note_epoch()

    def has(self, stage: str, key: str) -> bool:
        """Whether the finished output of this stage under this key is there; nothing of it is fetched."""
        self._note_epoch()
        return self._whole(f"{self.base}/{stage}/{key}") is not None

    def open(self, uri: str) -> Artifact:
        """Raises ArtifactMissing where nothing complete lies at `uri`."""
        place = self._place(uri)
        self._note_epoch()
        marker = self._whole(place)
        if marker is None:
            raise self._missing(place)
        return self._open(place, marker)

    @contextmanager
    def writing(self, stage: str, key: str, started: float | None = None) -> Iterator[Path]:
        """An empty directory that becomes the artifact when the block ends well, and vanishes otherwise.

        `started` is when the work on it began, in seconds since 1970; now, where not given.
        """
        started = started or time.time()
        self._note_epoch()
        if not self.local:
            self.root.write(f"{self.base}/{_WRITABLE}", b"")
        with self._spool.room(stage, key) as path:
            try:
                yield path
            except BaseException:
                self._spool.clear(path)
                raise
            try:
                self._publish(stage, key, Made(path, started, time.time(), self._epoch))
            except ErasedMeanwhile:
                self._epoch = None  # who makes it again reads everything again
                raise

    def made(self, artifact: Artifact) -> tuple[float, float]:
        """When the work on it began and ended, in seconds since 1970; in the marker, for no content depends on it."""
        marker = self._marker(self._place(artifact.uri))
        if marker is None:
            raise self._missing(self._place(artifact.uri))
        return marker.started, marker.finished

    def places(self, stage: str) -> list[str]:
        """URIs of all that lies under the stage's name, complete or not."""
        return [self.uri(stage, name) for name in self.root.names(f"{self.base}/{stage}")]

    def document(self, uri: str) -> dict[str, Any] | None:
        """`artifact.json` of what lies there, also of what was stripped to it; None where it has none."""
        text = self.root.read(f"{self._at(self._place(uri))}/{DOCUMENT}")
        return json.loads(text) if text else None

    def names(self, uri: str) -> set[str]:
        """Of all files of what lies there, as paths in it; none where nothing lies there."""
        return set(self._sizes(self._place(uri)))

    def size(self, uri: str, but: Collection[str] = ()) -> int:
        """Bytes of the files of what lies there, but for these."""
        return sum(size for name, size in self._sizes(self._place(uri)).items() if name not in but)

    def rewriting(self, uri: str) -> Rewriting:
        """To change the files of an artifact that is there."""
        place = self._place(uri)
        if self.local and self._marker(place) is None and self._spool.folder.exists():
            with held(self._spool.folder):
                pass  # who is about to mark it has done so now
        return Rewriting(self.root, place)

    def begin_erasure(self) -> None:
        """From here on, who has read anything before publishes nothing that holds conversations (ErasedMeanwhile).

        Whatever is published all the same was in its place before this call: who looks at all `places` now sees it. In
        a bucket its marker may come later: who looks then takes the files of what has none away, and with them goes
        what the marker would have told of.
        """
        self._epoch = uuid.uuid4().hex
        self.root.write(f"{self.base}/{_EPOCH}", self._epoch.encode())

    def keeps_old_versions(self) -> bool:
        """Whether what is overwritten or removed in the bucket can still be read there, as an older version."""
        return self.root.keeps_old_versions()

    def abandoned(self) -> list[Path]:
        """Directories in which killed writers on this machine left what may hold conversations."""
        return self._spool.left(HOLDING + MEASURING)

    def forget_copy(self, uri: str) -> bool:
        """Removes this machine's copy of what lies in a bucket; whether there was any."""
        stage, key = self._place(uri).rsplit("/", 2)[-2:]
        return not self.local and self._copies.forget(stage, key)

    def sweep(self) -> int:
        """Takes away what writers left in the bucket that were killed long ago. Returns how many of them."""
        if self.local:
            return 0  # what is not whole is beside the artifacts, and goes when the next is written
        left = list(self._left())
        for place in left:
            self.root.remove(place)
        uploads = abort(self.root, f"{self.base}/", time.time() - STALE_SECONDS) if self.root.is_s3 else 0
        return len(left) + uploads

    def _left(self) -> Iterator[str]:
        """Folders of files, written long ago, that no marker names."""
        for stage in self.root.names(self.base):
            for key in self.root.names(f"{self.base}/{stage}"):
                place = f"{self.base}/{stage}/{key}"
                newest: dict[str, float] = {}
                for name, at in self.root.modified(place).items():
                    folder, slash, _ = name.partition("/")
                    if slash and re.fullmatch("[0-9a-f]{16}", folder):
                        newest[folder] = max(at, newest.get(folder, 0))
                marker = self._marker(place)
                for folder, at in newest.items():
                    if at < time.time() - STALE_SECONDS and (marker is None or marker.folder not in ("", folder)):
                        yield f"{place}/{folder}"

    def _publish(self, stage: str, key: str, made: Made) -> None:
        place, holding = f"{self.base}/{stage}/{key}", stage in HOLDING + MEASURING
        marker = Marker.of(made.path, made.started, made.finished)
        try:
            if self.local:
                with held(self._spool.folder):
                    # One after the other: what has no marker is then torn, not another's who is about to set it.
                    self._move(place, made, marker, holding)
            else:
                self._spool.note(made)
                self._send(place, made, marker, holding)
        except BaseException as error:
            if self.local or isinstance(error, ErasedMeanwhile):
                self._spool.clear(made.path)
            raise
        self._spool.clear(made.path)

    def _move(self, place: str, made: Made, marker: Marker, holding: bool) -> None:
        if self._whole(place):
            return  # somebody finished the same work first; the same key means the same content
        if Path(place).exists():
            shutil.rmtree(place)  # half an output of an attempt that was killed
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        made.path.rename(place)
        if holding and self._is_late(made):  # when all is there, see begin_erasure
            shutil.rmtree(place)
            raise _late(place)
        self.root.write(f"{place}/{MARKER}", marker.text())

    def _send(self, place: str, made: Made, marker: Marker, holding: bool) -> None:
        if self._whole(place):
            return
        marker = Marker(marker.started, marker.finished, marker.files, marker.content())
        send(self.root, made.path, marker.under(place), marker.files or {})
        if holding and self._is_late(made):
            self._withdraw(place, marker)
            raise _late(place)
        self._mark(place, marker)
        if holding and self._is_late(made):  # an eraser that came between found files without a marker
            self._withdraw(place, marker)
            raise _late(place)

    def _withdraw(self, place: str, marker: Marker) -> None:
        """What a late writer sent goes, unless another's marker tells of the very same files: then they are also of one
        who was in time. Where it tells of others in this folder, they were scrubbed and ours may lie over them.
        """
        told = self._marker(place)
        if told is None or told.folder != marker.folder:
            self.root.remove(marker.under(place))
            if not self.root.sizes(place):
                self.root.remove(place)  # a folder with nothing in it, where there is such a thing
        elif told == marker or told.files != marker.files:
            self.root.remove(f"{place}/{MARKER}")
            self.root.remove(place)

    def _mark(self, place: str, marker: Marker) -> None:
        """Of writers that finish at once, the first stays; the files of the others go."""
        name = f"{place}/{MARKER}"
        if self.root.create(name, marker.text()):
            return
        first = self._marker(place)
        if first is None or not first.agrees(self.root.sizes(first.under(place))):
            self.root.write(name, marker.text())  # it was left of an artifact that is gone
        elif first.folder != marker.folder:
            self.root.remove(marker.under(place))

    def _send_unsent(self, stage: str, key: str) -> bool:
        """Whether there was anything."""
        if self.local:
            return False
        for made in self._spool.unsent(stage, key):
            with suppress(ErasedMeanwhile, FileNotFoundError), held(made.path):
                if self._spool.is_noted(made.path):  # nobody was faster
                    self._publish(stage, key, made)
                    return True
        return False

    def _note_epoch(self) -> None:
        if self._epoch is not None:
            return
        self._epoch = self._now()
        if not self.local:
            self._forget_erased()

    def _forget_erased(self) -> None:
        """Where conversations were erased since this machine last looked, maybe by another: its old copies go."""
        seen = self.cache / _EPOCH
        if (seen.read_text() if seen.exists() else "") == self._epoch:
            return
        for stage in HOLDING + MEASURING:
            for key in self._copies.keys(stage):
                text = self.root.read(f"{self.base}/{stage}/{key}/{MARKER}")
                if stage in MEASURING or not self._copies.is_of(stage, key, text):
                    self._copies.forget(stage, key)
        for left in self.abandoned():
            self._spool.clear(left)
        self.cache.mkdir(parents=True, exist_ok=True)
        write_whole(seen, (self._epoch or "").encode())

    def _now(self) -> str:
        return (self.root.read(f"{self.base}/{_EPOCH}") or b"").decode()

    def _is_late(self, made: Made) -> bool:
        return made.epoch != self._now()

    def _place(self, uri: str) -> str:
        """Keys are the same everywhere: what lay in another store is looked for in this one."""
        place = str(self.fs._strip_protocol(uri)).rstrip("/")
        if place.startswith(f"{self.base}/"):
            return place
        return "/".join([self.base, *uri.rstrip("/").rsplit("/", 2)[-2:]])

    def _marker(self, place: str) -> Marker | None:
        return Marker.read(self.root.read(f"{place}/{MARKER}"))

    def _whole(self, place: str) -> Marker | None:
        """Its marker, where that is there and so are all the files that it names."""
        marker = self._marker(place)
        return marker if marker and marker.agrees(self.root.sizes(marker.under(place))) else None

    def _at(self, place: str) -> str:
        marker = self._marker(place)
        return marker.under(place) if marker else place

    def _sizes(self, place: str) -> dict[str, int]:
        marker = self._marker(place)
        if marker is None or not marker.folder:
            return self.root.sizes(place)
        return self.root.sizes(marker.under(place)) | {MARKER: len(marker.text())}

    def _open(self, place: str, marker: Marker) -> Artifact:
        stage, key = place.rsplit("/", 2)[-2:]
        text = self.root.read(f"{marker.under(place)}/{DOCUMENT}")
        if text is None:
            raise self._missing(place)
        fetch: Any = (
            Path(place) if self.local else cache(partial(self._copies.fetch, place, partial(self._told, place)))
        )
        return Artifact(stage, key, self.uri(stage, key), fetch, json.loads(text))

    def _told(self, place: str) -> tuple[bytes, Marker]:
        """The marker as it is now, and what it says."""
        text = self.root.read(f"{place}/{MARKER}")
        marker = Marker.read(text)
        if text is None or marker is None:
            raise self._missing(place)
        return text, marker

    def _missing(self, place: str) -> ArtifactMissing:
        uri, stage = self.fs.unstrip_protocol(place), place.rsplit("/", 2)[-2]
        return ArtifactMissing(f"no complete artifact at {uri}; `theta stage {stage}` makes it")


def _late(place: str) -> ErasedMeanwhile:
    return ErasedMeanwhile(f"{place}: conversations were erased while it was made; make it again without them")
