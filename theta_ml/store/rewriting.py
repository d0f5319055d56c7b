"""Changes to the files of an artifact that is there: an erasure's, and retention's."""

import tempfile
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from theta_ml.store.artifact import MARKER
from theta_ml.store.disk import sha256, to_disk
from theta_ml.store.marker import File, Marker
from theta_ml.store.multipart import abort
from theta_ml.store.root import Root


class Rewriting:
    """An artifact's files, to be changed one at a time; each change is made whole or not at all, or can be repeated.

    The marker names no hash for a file while that is changed, and its new one after it: whoever fetches it meanwhile
    takes either as it is. A file that has no marker yet (its writer was killed) is changed all the same.
    """

    def __init__(self, root: Root, place: str) -> None:
        self.root, self.place = root, place
        marker = self._marker()
        self.at = marker.under(place) if marker else place
        """Where the files are."""
        self._copies = None if root.local else tempfile.TemporaryDirectory(prefix="theta-rewriting-")
        self.folder = Path(place) if self._copies is None else Path(self._copies.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._copies:
            self._copies.cleanup()

    def names(self) -> list[str]:
        """Of its files, and of the folders in it."""
        names = self.root.names(self.at)
        if self.at != self.place and self._marker():
            names = sorted([*names, MARKER])
        return names

    def path(self, name: str) -> Path:
        """The file, or a copy of what lies in a bucket."""
        path = self.folder / name
        if self._copies and not path.exists():
            self.root.receive(f"{self.at}/{name}", path)
        return path

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """The file where it lies: of what is in a bucket only those parts travel that are read."""
        return self.root.open(f"{self.at}/{name}")

    def edited(self, name: str) -> None:
        """The file at `path(name)` was changed in place: who has it mapped sees the change."""
        path = self.folder / name
        with self._changing(name):
            if self._copies:
                self.root.send(path, f"{self.at}/{name}")
            else:
                to_disk(path)

    @contextmanager
    def replacing(self, name: str) -> Iterator[Path]:
        """Where the new file is to be written; it takes the old one's place at the end of the block."""
        new = self.folder / f".{name}.new"
        yield new
        to_disk(new)
        with self._changing(name):
            new.replace(self.folder / name)
            if self._copies:
                self.root.send(self.folder / name, f"{self.at}/{name}")
            else:
                to_disk(self.folder)

    def remove_unfinished(self) -> None:
        """What a killed rewriter left, and writers that came second, or were killed while they sent it."""
        for name in self.names():
            if name.startswith(".") and name.endswith(".new"):
                self.root.remove(f"{self.at}/{name}")
        if self.at != self.place:
            kept = (self.at.rpartition("/")[2], MARKER)
            for name in set(self.root.names(self.place)) - set(kept):
                self.root.remove(f"{self.place}/{name}")
        self._abort()

    def strip(self, kept: Collection[str]) -> None:
        """All but the files `kept`, its marker first: from then on nobody finds it, but it is told what it was."""
        if self.at != self.place:  # what is kept is found without the marker, too
            for name in set(kept) & set(self.names()):
                self.root.write(f"{self.place}/{name}", self.root.read(f"{self.at}/{name}") or b"")
        names = self.root.names(self.place)
        for name in sorted(names, key=lambda name: name != MARKER):
            if name not in kept:
                self.root.remove(f"{self.place}/{name}")
        self._abort()

    def remove(self) -> None:
        """The whole artifact, its marker first."""
        self.root.remove(f"{self.place}/{MARKER}")
        self.root.remove(self.place)
        self._abort()

    @contextmanager
    def _changing(self, name: str) -> Iterator[None]:
        self._record(name, None)
        yield
        path = self.folder / name
        self._record(name, File(path.stat().st_size, sha256(path)))

    def _record(self, name: str, file: File | None) -> None:
        marker = self._marker()
        if marker:
            self.root.write(f"{self.place}/{MARKER}", marker.changed(name, file).text())

    def _marker(self) -> Marker | None:
        return Marker.read(self.root.read(f"{self.place}/{MARKER}"))

    def _abort(self) -> None:
        if self.root.is_s3:
            abort(self.root, f"{self.place}/")
