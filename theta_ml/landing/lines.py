"""Lines of a file, plain or gzip, in constant memory, whatever the lines' length."""

import gzip
import zlib
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

MAX_LINE_BYTES = 10_000_000
KEPT_BYTES = 64 * 1024
"""What is kept of a line that is rejected."""
_BLOCK = 1 << 20
_GZIP = b"\x1f\x8b"
_FOREIGN = {
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"PK\x03\x04": "a zip archive",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ": "compressed by xz",
    b"PAR1": "a Parquet file",
}
_UTF8_MARK = b"\xef\xbb\xbf"


class UnreadableFile(Exception):
    """The file cannot be read (further); the message names it and says what to do."""


class Line(NamedTuple):
    number: int
    """From 1."""
    data: bytes
    """Without the line's end; the first 64 KiB where it is too long."""
    too_long: bool


class LineFile:
    """A file of lines. `position` of `size` bytes have been read, as they lie on disk."""

    def __init__(self, path: Path) -> None:
        """Raises UnreadableFile."""
        self.path = path
        try:
            self._raw = path.open("rb")
        except OSError as error:
            raise UnreadableFile(f"{path}: {error.strerror or error}") from None
        self.size = path.stat().st_size
        head = self._raw.peek(8)
        for mark, what in _FOREIGN.items():
            if head.startswith(mark):
                self._raw.close()
                raise UnreadableFile(f"{path} is {what}; make it UTF-8 text, a JSON object a line, plain or .gz")
        self._text: BufferedIOBase = gzip.GzipFile(fileobj=self._raw) if head.startswith(_GZIP) else self._raw

    @property
    def position(self) -> int:
        return self._raw.tell() if self._raw.seekable() else 0  # a pipe does not know

    def __iter__(self) -> Iterator[Line]:
        """Lines that are not blank. Raises UnreadableFile where the file breaks off or its disk fails."""
        number = 0
        try:
            while data := self._text.readline(MAX_LINE_BYTES + 2):
                number += 1
                if len(data.rstrip(b"\r\n")) > MAX_LINE_BYTES:
                    self._skip_rest(data)
                    yield Line(number, data[:KEPT_BYTES], too_long=True)
                    continue
                if number == 1:
                    data = data.removeprefix(_UTF8_MARK)
                data = data.strip()
                if data:
                    yield Line(number, data, too_long=False)
        except EOFError:
            raise UnreadableFile(f"{self.path} breaks off after line {number}: fetch it again") from None
        except (OSError, zlib.error) as error:
            raise UnreadableFile(f"{self.path} is damaged after line {number} ({error}): fetch it again") from None

    def _skip_rest(self, data: bytes) -> None:
        while data and not data.endswith(b"\n"):
            data = self._text.readline(_BLOCK)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._text.close()
        self._raw.close()
