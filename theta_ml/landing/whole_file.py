"""A file that appears when it is complete, or not at all."""

import gzip
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO


@contextmanager
def whole_file(output: str) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """Opens `output` for writing: a path, compressed where it ends in .gz, or - for standard output.

    A new file can be read by its owner only. A link is followed; a device or a pipe is written to as it stands, for
    renaming a file over it would take it away from everybody. Raises OSError where it cannot be written.
    """
    if output == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(output).resolve()
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it")
    if path.exists() and not path.is_file():
        with path.open("wb") as there, _opened(there, output) as file:
            yield file
        return
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as beside:
        try:
            with _opened(beside, output) as file:
                yield file
            beside.flush()
            os.fsync(beside.fileno())
            Path(beside.name).replace(path)
        except BaseException:
            Path(beside.name).unlink(missing_ok=True)
            raise


def _opened(file: IO[bytes], output: str) -> AbstractContextManager[IO[bytes] | gzip.GzipFile]:
    if not output.endswith(".gz"):
        return nullcontext(file)
    return gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0)
