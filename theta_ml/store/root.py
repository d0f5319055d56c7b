"""Where the artifacts lie: a folder, or a part of a bucket. Every request to it is made here."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import fsspec

from theta_ml.settings import SettingsError
from theta_ml.store.disk import write_whole
from theta_ml.store.faults import code_of, explained

S3 = ("s3", "s3a")
_S3_OPTIONS: dict[str, Any] = {
    # Other machines write to it: what was listed before says nothing.
    "use_listings_cache": False,
    "config_kwargs": {
        "connect_timeout": 10,
        "read_timeout": 30,
        "max_pool_connections": 32,
        # 1, 2, 4 and 8 s between attempts, but for chance; after that the task's own retry is the better one.
        "retries": {"mode": "standard", "total_max_attempts": 5},
    },
}
_BY_PARTS = {"chunksize": 16 << 20, "max_concurrency": 4}
"""Else a large file is in memory ten times 50 MiB at once."""
_THERE = ("PreconditionFailed", "412")
"""Answers of servers that do not say which condition failed; s3fs knows Amazon's, which does."""


class Root:
    """Names are whole paths as the filesystem has them: `BASE/STAGE/KEY/…`."""

    def __init__(self, url: str) -> None:
        """`url` is any fsspec URL, or a folder. Raises SettingsError where there is no client for it."""
        self.is_s3 = fsspec.utils.get_protocol(url) in S3
        try:
            self.fs, base = fsspec.core.url_to_fs(url, **(_S3_OPTIONS if self.is_s3 else {}))
        except (ValueError, ImportError) as error:
            raise SettingsError(f"THETA_ARTIFACTS_URL is {url}, for which there is no client: {error}") from None
        if self.is_s3:
            self.fs.retries = 2  # of what breaks off while it is read; requests are tried again by the client
        self.base = str(base).rstrip("/")
        self.local = "file" in _protocols(self.fs)
        self.url = str(self.fs.unstrip_protocol(self.base))

    def read(self, name: str) -> bytes | None:
        """None where there is no such file."""
        with explained(self.url, "read from"):
            try:
                return bytes(self.fs.cat_file(name, **({"max_concurrency": 1} if self.is_s3 else {})))
            except FileNotFoundError as error:
                _raise_where_bucket_is_gone(error)
                return None

    def write(self, name: str, data: bytes) -> None:
        if self.local:
            with explained(self.url, "write to"):
                Path(name).parent.mkdir(parents=True, exist_ok=True)
                write_whole(Path(name), data)
        else:
            with explained(self.url, "write to"):
                self.fs.pipe_file(name, data)

    def create(self, name: str, data: bytes) -> bool:
        """In a bucket. False where there is such a file already: of several that create it at once, one is told True.

        A server that does not know the condition (If-None-Match) is asked whether it is there, and then told.
        """
        with explained(self.url, "write to"):
            try:
                self.fs.pipe_file(name, data, mode="create")
            except (NotImplementedError, OSError) as error:
                if isinstance(error, FileExistsError) or code_of(error) in _THERE:
                    return False
                if not _is_unknown_condition(error):
                    raise
                if self.read(name) is not None:
                    return False
                self.fs.pipe_file(name, data)
        return True

    def sizes(self, place: str) -> dict[str, int]:
        """Bytes of all files under it, by path relative to it (empty, where it is a file itself)."""
        return {name: int(info["size"]) for name, info in self._found(place).items()}

    def modified(self, place: str) -> dict[str, float]:
        """Seconds since 1970, of those files under it whose age is known."""
        times = {name: info.get("LastModified", info.get("mtime")) for name, info in self._found(place).items()}
        return {
            name: time.timestamp() if isinstance(time, datetime) else float(time)
            for name, time in times.items()
            if time is not None
        }

    def names(self, folder: str) -> list[str]:
        """Of the files and folders in it, their last part."""
        with explained(self.url, "read from"):
            self.fs.invalidate_cache()
            try:
                found = self.fs.ls(folder, detail=False)
            except FileNotFoundError as error:
                _raise_where_bucket_is_gone(error)
                return []
        return sorted({str(name).rstrip("/").rpartition("/")[2] for name in found})

    def send(self, path: Path, name: str) -> None:
        """A file of this machine, over what is there."""
        with explained(self.url, "write to"):
            self.fs.put_file(str(path), name, **(_BY_PARTS if self.is_s3 else {}))

    def receive(self, name: str, path: Path) -> None:
        """A file, to this machine. Raises FileNotFoundError where it is gone."""
        with explained(self.url, "read from"):
            self.fs.get_file(name, str(path), **(_BY_PARTS if self.is_s3 else {}))

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """To be read in the block: each read is a request."""
        with explained(self.url, "read from"), self.fs.open(name, "rb") as file:
            yield file

    def remove(self, place: str) -> None:
        """A file, or a folder with all that is in it; nothing where there is none.

        s3fs does not tell of files that it could not remove, so what is left is looked for.
        """
        with explained(self.url, "remove from"):
            self.fs.invalidate_cache()
            try:
                self.fs.rm(place, recursive=True)
            except FileNotFoundError as error:
                _raise_where_bucket_is_gone(error)
            if not self.local and self.sizes(place):
                raise PermissionError(f"{place} could not be removed")

    def keeps_old_versions(self) -> bool:
        """Of a bucket of S3; also where the credentials do not suffice to learn that it does not."""
        if not self.is_s3:
            return False
        with explained(self.url, "read from"):
            try:
                found = self.fs.call_s3("get_bucket_versioning", Bucket=self.fs.split_path(self.base)[0])
            except (PermissionError, NotImplementedError):
                return True
        return "Status" in found

    def _found(self, place: str) -> dict[str, dict[str, Any]]:
        with explained(self.url, "read from"):
            self.fs.invalidate_cache()
            try:
                found = self.fs.find(place, detail=True)
            except FileNotFoundError as error:
                _raise_where_bucket_is_gone(error)
                return {}
        return {str(name)[len(place) + 1 :]: info for name, info in found.items() if not str(name).endswith("/")}


def _raise_where_bucket_is_gone(error: FileNotFoundError) -> None:
    """A file that is not there is an answer, a bucket that is not there is a fault."""
    if code_of(error) == "NoSuchBucket":
        raise error


def _is_unknown_condition(error: Exception) -> bool:
    return isinstance(error, NotImplementedError) or code_of(error) in ("NotImplemented", "501")


def _protocols(fs: fsspec.AbstractFileSystem) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
