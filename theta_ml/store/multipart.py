"""A large file, sent to S3 by parts: one that was broken off goes on with the parts that are not there yet.

S3 keeps the parts of an upload until it is completed or aborted. The place names the content (see `Marker.content`), so
an unfinished upload to it is of these very bytes. s3fs's own upload begins anew, and leaves behind what a killed
process had sent.
"""

import errno
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from theta_ml.store.faults import explained
from theta_ml.store.root import Root

PART = 16 << 20
"""Bytes; S3 takes at least 5 MiB, and at most 10,000 parts."""
_MOST_PARTS = 10_000


class Multipart:
    """The upload of one file."""

    def __init__(self, root: Root, path: Path, place: str) -> None:
        self.fs, self.path, self.place = root.fs, path, place
        bucket, key, _ = self.fs.split_path(place)
        self._at = {"Bucket": bucket, "Key": key}
        self.size = path.stat().st_size
        self.part = max(PART, math.ceil(self.size / _MOST_PARTS))
        begun = (each["UploadId"] for each in unfinished(root, place) if each["Key"] == key)
        self._id = next(begun, None)
        self._tags: dict[int, str] = dict(self._there()) if self._id else {}
        if self._id is None:
            self._id = self.fs.call_s3("create_multipart_upload", **self._at)["UploadId"]

    def missing(self) -> list[int]:
        """Numbers of the parts that are to be sent, from 1."""
        return [number for number in range(1, math.ceil(self.size / self.part) + 1) if number not in self._tags]

    def send(self, number: int) -> int:
        """Bytes sent."""
        start, length = self._range(number)
        with self.path.open("rb") as file:
            data = os.pread(file.fileno(), length, start)
        sent = self.fs.call_s3("upload_part", **self._at, UploadId=self._id, PartNumber=number, Body=data)
        self._tags[number] = sent["ETag"]
        return length

    def complete(self) -> None:
        parts = [{"PartNumber": number, "ETag": tag} for number, tag in sorted(self._tags.items())]
        self.fs.call_s3("complete_multipart_upload", **self._at, UploadId=self._id, MultipartUpload={"Parts": parts})

    def _there(self) -> Iterator[tuple[int, str]]:
        marker: dict[str, int] = {}
        while True:
            page = self.fs.call_s3("list_parts", **self._at, UploadId=self._id, **marker)
            for part in page.get("Parts", []):
                if part["Size"] == self._range(part["PartNumber"])[1]:
                    yield part["PartNumber"], part["ETag"]
            if not page.get("IsTruncated"):
                return
            marker = {"PartNumberMarker": page["NextPartNumberMarker"]}

    def _range(self, number: int) -> tuple[int, int]:
        start = (number - 1) * self.part
        return start, min(self.part, self.size - start)


def unfinished(root: Root, prefix: str) -> Iterator[dict[str, Any]]:
    """Uploads that were begun and not finished, to what begins with `prefix`: `Key`, `UploadId`, `Initiated`."""
    bucket, key, _ = root.fs.split_path(prefix)
    marker: dict[str, str] = {}
    while True:
        try:
            page = root.fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=key, **marker)
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
            return  # a server that does not tell of them: a file that was broken off begins anew
        yield from page.get("Uploads", [])
        if not page.get("IsTruncated"):
            return
        marker = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}


def abort(root: Root, prefix: str, before: float | None = None) -> int:
    """Ends unfinished uploads to what begins with `prefix`, of those begun `before` (seconds since 1970) if given.

    Returns how many there were.
    """
    bucket, _, _ = root.fs.split_path(prefix)
    with explained(root.url, "remove from"):
        found = list(unfinished(root, prefix))
        stale = [each for each in found if before is None or each["Initiated"].timestamp() < before]
        for each in stale:
            root.fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=each["Key"], UploadId=each["UploadId"])
    return len(stale)
