"""Files as records, read as they are needed: JSON lines, a JSON array, CSV, Parquet; text may be .gz."""

import csv
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import IO, Any, cast

import orjson

from theta_ml.corpus.formats.conversation import MAX_CONVERSATION_BYTES, Rejected
from theta_ml.corpus.formats.layouts import Records
from theta_ml.landing.lines import LineFile, UnreadableFile

_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 18
_SEPARATORS = ",;\t"
_PARQUET_ROWS = 1024
_BETWEEN = re.compile(r"[ \t\r\n,]*")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_records(path: Path) -> Records:
    """JSON lines; or one JSON array, as Alpaca's and ShareGPT's files are often published."""
    with _bytes(path) as stream:
        first = stream.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    return _array(path) if first == b"[" else _lines(path)


def _lines(path: Path) -> Records:
    with LineFile(path) as lines:
        for number, data, too_long in lines:
            yield number, Rejected("line over 10 MB") if too_long else _object(data)


def _object(data: bytes) -> dict[str, Any] | Rejected:
    try:
        record = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        return Rejected(_reason(data, error))
    return record if isinstance(record, dict) else Rejected("not a JSON object")


def _reason(data: bytes, error: orjson.JSONDecodeError) -> str:
    if b"\x00" in data:
        return "NUL byte"
    try:
        data.decode()
    except UnicodeDecodeError:
        return "not UTF-8"
    return "lone surrogate" if "surrogate" in error.msg else "broken JSON"


def _array(path: Path) -> Records:
    """Elements of one JSON array, an element at a time; `line` is the element's number."""
    decode = json.JSONDecoder().raw_decode
    with text(path) as stream:
        held, number = stream.read(_CHUNK), 0
        at = held.index("[") + 1
        while True:
            at = _BETWEEN.match(held, at).end()  # type: ignore[union-attr]
            if held.startswith("]", at):
                return
            try:
                record, end = decode(held, at)
            except (ValueError, RecursionError):  # it may go on in the next chunk
                more = stream.read(max(_CHUNK, len(held) - at))
                if not more or len(held) - at > 4 * MAX_CONVERSATION_BYTES:
                    raise UnreadableFile(
                        f"{path}: element {number + 1} of its JSON array breaks off or is no JSON; "
                        "mend it there, or write an object a line"
                    ) from None
                held, at = held[at:] + more, 0
                continue
            number, at = number + 1, end
            yield number, record if isinstance(record, dict) else Rejected("not a JSON object")


def csv_columns(path: Path) -> list[str]:
    with text(path) as stream:
        return _header(path, _csv(stream))


def csv_records(path: Path) -> Records:
    """Rows below a header line. Quoted fields may hold line ends; `line` is where the row ends."""
    with text(path) as stream:
        reader = _csv(stream)
        header = _header(path, reader)
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error:
                yield reader.line_num, Rejected("broken CSV")
                continue
            if len(fields) == len(header):
                yield reader.line_num, dict(zip(header, fields, strict=True))
            elif fields:
                yield reader.line_num, Rejected("other number of fields than the header")


def _csv(stream: TextIOWrapper) -> Any:
    """Its separator is the one that its header line has most of."""
    csv.field_size_limit(MAX_CONVERSATION_BYTES)
    first = stream.readline(_CHUNK)
    return csv.reader(chain([first], stream), delimiter=max(_SEPARATORS, key=first.count))


def _header(path: Path, reader: Any) -> list[str]:
    try:
        return [column.strip() for column in next(reader, [])]
    except csv.Error as error:
        raise UnreadableFile(f"{path} does not begin with a CSV header ({error}); write one") from None


def parquet_columns(path: Path) -> list[str]:
    with _parquet(path) as file:
        return list(file.schema_arrow.names)


def parquet_records(path: Path) -> Records:
    number = 0
    with _parquet(path) as file:
        for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
            for record in _pylist(batch):
                number += 1
                yield number, record


def _pylist(batch: Any) -> Iterator[dict[str, Any] | Rejected]:
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:  # raised before the first row: to_pylist makes all of them at once
        for row in range(batch.num_rows):
            try:
                yield batch.slice(row, 1).to_pylist()[0]
            except UnicodeDecodeError:
                yield Rejected("not UTF-8")


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowInvalid, OSError) as error:
        raise UnreadableFile(f"{path} is no Parquet file that can be read ({_short(error)}): fetch it again") from None


@contextmanager
def text(path: Path) -> Iterator[TextIOWrapper]:
    """The file as text. Bytes that are no UTF-8 become lone surrogates, which are rejected with their row."""
    with (
        _bytes(path) as stream,
        TextIOWrapper(cast(Any, stream), encoding="utf-8-sig", errors="surrogateescape", newline="") as decoded,
    ):
        yield decoded


@contextmanager
def _bytes(path: Path) -> Iterator[IO[bytes]]:
    try:
        with path.open("rb") as raw:
            packed = raw.peek(2)[:2] == _GZIP
            with cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if packed else raw as stream:
                yield stream
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadableFile(f"{path} cannot be read ({_short(error)}): fetch it again") from None


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
