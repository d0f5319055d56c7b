"""Files on local disk: locks that die with their holder, writes that are whole or not there, hashes."""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

AT_ONCE = 8
"""Files, or parts of files, that are under way together."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def to_disk(path: Path) -> None:
    """Waits until a file, or a folder's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, data: bytes) -> None:
    """All of it or, where the process or the machine dies, what was there before."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    new.write_bytes(data)
    to_disk(new)
    new.replace(path)
    to_disk(path.parent)


def sha256(path: Path) -> str:
    """Hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_in(folder: Path) -> Iterator[str]:
    """Paths of all files in it and its folders, relative to it, sorted."""
    yield from sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def together(work: Callable[[Item], Answer], items: Iterable[Item]) -> list[Answer]:
    """Several at once; the first that fails ends it, with what it raised."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            return list(pool.map(work, items))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Tells others on this machine that its holder lives; the kernel forgets it when it dies."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def held_if_free(path: Path) -> Iterator[bool]:
    """False where somebody else holds it, or it has just gone; nobody is waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        yield _taken(descriptor)
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Also where it has just gone: there is nothing to take over."""
    with held_if_free(path) as free:
        return not free


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def hold_shared(path: Path) -> int:
    """A descriptor that marks the file as in use for as long as it is open; any number may hold it so."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor
