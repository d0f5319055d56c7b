"""Files to and from a bucket: several at once, large ones by parts, and never again what is there already."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from theta_ml.store.disk import sha256, together
from theta_ml.store.faults import code_of, explained
from theta_ml.store.marker import File
from theta_ml.store.multipart import PART, Multipart
from theta_ml.store.root import Root

_PARTED = 2 * PART
"""Bytes from which a file travels by parts."""


def send(root: Root, folder: Path, place: str, files: dict[str, File | None]) -> int:
    """Files of `folder` to `place`, which names their content: what lies there with the right size is not sent.

    Returns the bytes sent.
    """
    with explained(root.url, "write to"):
        try:
            return _send_missing(root, folder, place, files)
        except FileNotFoundError as error:
            if code_of(error) != "NoSuchUpload":
                raise
            return _send_missing(root, folder, place, files)  # another writer of the same bytes completed it


def _send_missing(root: Root, folder: Path, place: str, files: dict[str, File | None]) -> int:
    there = root.sizes(place)
    missing = {name: file.bytes for name, file in files.items() if file and there.get(name) != file.bytes}
    parted = {name for name, size in missing.items() if root.is_s3 and size >= _PARTED}
    uploads = together(lambda name: Multipart(root, folder / name, f"{place}/{name}"), sorted(parted))
    work: list[Callable[[], int]] = [partial(upload.send, number) for upload in uploads for number in upload.missing()]
    work += [partial(_send, root, folder / name, f"{place}/{name}") for name in sorted(missing.keys() - parted)]
    sent = sum(together(lambda task: task(), work))
    together(Multipart.complete, uploads)
    return sent


def _send(root: Root, path: Path, place: str) -> int:
    root.fs.put_file(str(path), place)
    return path.stat().st_size


def fetch(root: Root, place: str, files: dict[str, File | None], folder: Path) -> list[str]:
    """Files at `place` to `folder`, each whole and right or not there; those that a download that was broken off
    brought are checked, not fetched.

    Returns the names of those that are not what they should be (SHA-256), or not there.
    """
    with explained(root.url, "read from"):
        lacking = together(lambda name: None if _is_right(folder / name, files[name]) else name, sorted(files))
        arriving = [_Arriving(root, f"{place}/{name}", folder / name, files[name]) for name in lacking if name]
        together(lambda task: task(), [task for each in arriving for task in each.tasks()])
        arrived = together(_Arriving.finish, arriving)
        return [name for name, right in zip(filter(None, lacking), arrived, strict=True) if not right]


def _is_right(path: Path, file: File | None) -> bool:
    """An unnamed one may have changed in the bucket."""
    return file is not None and path.is_file() and path.stat().st_size == file.bytes and sha256(path) == file.sha256


class _Arriving:
    """A file on its way: beside its place until it is whole."""

    def __init__(self, root: Root, place: str, path: Path, file: File | None) -> None:
        self.root, self.place, self.path, self.file = root, place, path, file
        content = file.sha256[:16] if file else "unnamed"
        self.part = path.with_name(f".{path.name}.{content}.part")
        self.done = path.with_name(f".{path.name}.{content}.done")
        """A line for each part that is there: its number."""
        self._right: bool | None = None

    def tasks(self) -> list[Callable[[], None]]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.file is None or self.file.bytes < _PARTED:
            return [self._whole]
        if not self.done.exists():
            self.part.unlink(missing_ok=True)
        there = set(self.done.read_text().split()) if self.part.exists() else set()
        return [partial(self._range, start) for start in range(0, self.file.bytes, PART) if str(start) not in there]

    def finish(self) -> bool:
        """Whether it is what it should be; it takes its place then, and is thrown away otherwise."""
        if self._right is None:
            self._right = self._settle()
        return self._right

    def _settle(self) -> bool:
        right = self.part.exists() and (self.file is None or sha256(self.part) == self.file.sha256)
        if right:
            self.part.replace(self.path)
        self.part.unlink(missing_ok=True)
        self.done.unlink(missing_ok=True)
        return right

    def _whole(self) -> None:
        try:
            self.root.fs.get_file(self.place, str(self.part))
        except FileNotFoundError:
            self.part.unlink(missing_ok=True)
        self.finish()  # at once: who is killed has what it had

    def _range(self, start: int) -> None:
        assert self.file is not None
        try:
            data = self.root.fs.cat_file(self.place, start=start, end=min(start + PART, self.file.bytes))
        except FileNotFoundError:
            return
        descriptor = os.open(self.part, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            os.pwrite(descriptor, data, start)
        finally:
            os.close(descriptor)
        with self.done.open("a") as done:
            done.write(f"{start}\n")
