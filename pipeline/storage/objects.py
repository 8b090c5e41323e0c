"""Objects in buckets, over S3's protocol (Amazon S3 API Reference, version 2006-03-01)."""

from __future__ import annotations

import errno
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC
from functools import partial
from typing import Any, BinaryIO, TypeVar

from pipeline.storage.connection import connect, renewed
from pipeline.storage.faults import (
    CredentialsError,
    GaveUpError,
    NoBucketError,
    PassingError,
    persist,
    s3_errors,
)
from pipeline.storage.names import Entry, StoreOptions, join, temporary_name
from pipeline.storage.reader import ObjectReader
from pipeline.storage.transfer import Accept, Transfer, content_md5, crc32

T = TypeVar("T")

# What one PUT may carry. Larger objects would need uploads in parts, which a killed process leaves behind, and whose
# end not every service can make conditional; no photograph that Albumen delivers comes near.
LARGEST_PUT = 5 * 2**30
_MARK = "albumen-write"
_KEYS_A_DELETE = 1000
_MANY_DELETES_UNKNOWN = {errno.ENOSYS, errno.EINVAL, errno.EIO}


def split(uri: str) -> tuple[str, str]:
    """Bucket and key of an s3:// URI; the key is taken as it stands."""
    bucket, _, key = uri.split("://", 1)[1].partition("/")
    return bucket, key


class Objects:
    """Every method raises the errors of `faults`, after as many tries as `StoreOptions.patience` allows."""

    def __init__(self, options: StoreOptions) -> None:
        self.options = options

    def read(self, uri: str, accept: Accept | None = None) -> bytes:
        bucket, key = split(uri)

        def get(**more: Any) -> Mapping[str, Any]:
            return self._ask(uri, "get_object", Bucket=bucket, Key=key, **more)

        return self._persist(Transfer(get, uri, accept).go_on)

    def open(self, uri: str) -> BinaryIO:
        size, etag = self._persist(partial(self._look, uri))

        def get_range(first: int, last: int) -> bytes:
            return self._persist(lambda: self._range(uri, etag, first, last))

        return ObjectReader(size, get_range).buffered()

    def exists(self, uri: str) -> bool:
        """Also true for a bucket, and for a prefix that something lies below."""
        bucket, key = split(uri)
        try:
            if self.has(uri):
                return True
            prefix = key.rstrip("/") + "/" if key else ""
            page = self._persist(lambda: self._page(uri, bucket, prefix, "", most=1))
        except NoBucketError:
            return False
        return not key or bool(page.get("Contents"))

    def has(self, uri: str) -> bool:
        if not split(uri)[1]:
            return False
        try:
            self._persist(partial(self._look, uri))
        except FileNotFoundError:
            return False
        return True

    def put(self, uri: str, data: bytes) -> None:
        self._persist(lambda: self._send(uri, data))

    def create(self, uri: str, data: bytes) -> bool:
        if self.conditional(uri.rpartition("/")[0]):
            return self._create(uri, data)
        if self.has(uri):
            return False
        self.put(uri, data)
        return True

    def conditional(self, root: str) -> bool:
        bucket = split(root)[0]
        known = connect(self.options).conditional
        if bucket not in known:
            known[bucket] = self._probe(join(root, temporary_name("conditional")))
        return known[bucket]

    def delete(self, uri: str) -> None:
        bucket, key = split(uri)
        self._persist(lambda: self._ask(uri, "delete_object", Bucket=bucket, Key=key))

    def delete_many(self, uris: Iterable[str]) -> None:
        buckets: dict[str, list[str]] = {}
        for uri in uris:
            bucket, key = split(uri)
            keys = buckets.setdefault(bucket, [])
            keys.append(key)
            if len(keys) == _KEYS_A_DELETE:
                self._delete_batch(bucket, buckets.pop(bucket))
        for bucket, keys in buckets.items():
            self._delete_batch(bucket, keys)

    def list(self, root: str, after: str | None = None) -> Iterator[Entry]:
        scheme = root.split("://", 1)[0]
        bucket, key = split(root)
        prefix = key.rstrip("/") + "/" if key.strip("/") else ""
        last = prefix + (after or "")
        more = True
        while more:
            # Behind `prefix` itself: consoles make an empty object for a folder, and the root's has no name below it.
            page = self._persist(partial(self._page, root, bucket, prefix, last))
            for found in page.get("Contents", ()):
                last = found["Key"]
                yield _entry(found, last.removeprefix(prefix), f"{scheme}://{bucket}/{last}")
            more = page["IsTruncated"]

    def ask_for_one_name(self, root: str) -> None:
        """The cheapest question that fails for the right reason, asked with little patience."""
        patience = replace(self.options.patience, total=min(3.0, self.options.patience.total))
        # One slow failure alone could use up so little, and says nothing yet.
        persist(patience, lambda: self._page(root, split(root)[0], "", "", most=1), least=3)

    def _persist(self, work: Callable[[], T]) -> T:
        connection = connect(self.options)
        try:
            return persist(self.options.patience, work)
        except CredentialsError:
            # Somebody may have written new ones into the file that the old ones came from.
            if not renewed(self.options, connection):
                raise
            return persist(self.options.patience, work)

    def _ask(self, place: str, operation: str, **parameters: Any) -> Mapping[str, Any]:
        client = connect(self.options).client
        with s3_errors(place):
            answer: Mapping[str, Any] = getattr(client, operation)(**parameters)
        return answer

    def _look(self, uri: str) -> tuple[int, str | None]:
        """Size and etag. Answers to HEAD have no text: for a bare refusal, a question that may have one is asked."""
        bucket, key = split(uri)
        try:
            answer = self._ask(uri, "head_object", Bucket=bucket, Key=key)
        except OSError as error:
            if isinstance(error, PermissionError) or error.errno == errno.EINVAL:
                self._ask(uri, "list_objects_v2", Bucket=bucket, Prefix=key, MaxKeys=1)
            raise
        return int(answer["ContentLength"]), answer.get("ETag")

    def _range(self, uri: str, etag: str | None, first: int, last: int) -> bytes:
        bucket, key = split(uri)
        condition = {} if etag is None else {"IfMatch": etag}
        try:
            answer = self._ask(uri, "get_object", Bucket=bucket, Key=key, Range=f"bytes={first}-{last}", **condition)
        except FileExistsError as error:
            raise OSError(f"{uri} was replaced while it was read") from error
        body = answer["Body"]
        try:
            if not answer.get("ContentRange", "").startswith(f"bytes {first}-{last}/"):
                raise OSError(f"{uri}: the store does not answer for the range of bytes that it was asked for")
            with s3_errors(uri):
                data: bytes = body.read()
        finally:
            body.close()
        if len(data) != last - first + 1:
            raise PassingError(f"{uri}: {len(data):,} of {last - first + 1:,} bytes came")
        return data

    def _send(self, uri: str, data: bytes, **more: Any) -> None:
        if len(data) > LARGEST_PUT:
            error = OSError(f"{uri}: {len(data):,} bytes are more than one object may be given ({LARGEST_PUT:,})")
            error.errno = errno.EFBIG
            raise error
        bucket, key = split(uri)
        answer = self._ask(
            uri,
            "put_object",
            Bucket=bucket,
            Key=key,
            Body=data,
            # Every service compares the first; Amazon and its like also keep the second and give it back with the bytes.
            ContentMD5=content_md5(data),
            ChecksumAlgorithm="CRC32",
            ChecksumCRC32=crc32(data),
            **more,
        )
        if "ETag" not in answer:
            raise PassingError(f"{uri}: the answer was not one of a store that has taken an object")

    def _create(self, uri: str, data: bytes) -> bool:
        mark = secrets.token_hex(16)
        doubtful = False

        def attempt() -> bool:
            nonlocal doubtful
            try:
                self._send(uri, data, IfNoneMatch="*", Metadata={_MARK: mark})
            except FileExistsError:
                # An earlier try may have been carried out although its answer never came.
                return doubtful and self._is_own(uri, mark, data)
            except PassingError:
                doubtful = True
                raise
            return True

        return self._persist(attempt)

    def _is_own(self, uri: str, mark: str, data: bytes) -> bool:
        try:
            if connect(self.options).keeps_marks.get(split(uri)[0]):
                return self._mark(uri) == mark
            return self.read(uri) == data
        except FileNotFoundError as error:
            raise PassingError(f"{uri} was there and is gone") from error

    def _mark(self, uri: str) -> str | None:
        bucket, key = split(uri)
        mark: str | None = self._ask(uri, "head_object", Bucket=bucket, Key=key)["Metadata"].get(_MARK)
        return mark

    def _probe(self, uri: str) -> bool:
        """Create one name twice: the second time must be refused."""
        try:
            honoured = self._create(uri, b"1") and not self._create(uri, b"2")
            marked = self._persist(partial(self._mark, uri)) is not None
        except OSError as error:
            if error.errno in (errno.ENOSYS, errno.EINVAL) and not isinstance(error, GaveUpError):
                return False
            raise
        connect(self.options).keeps_marks[split(uri)[0]] = marked
        # A store that lets nothing be deleted keeps one small object more.
        with suppress(PermissionError):
            self.delete(uri)
        return honoured

    def _page(self, place: str, bucket: str, prefix: str, last: str, most: int = 1000) -> Mapping[str, Any]:
        """One page of names behind `last`. Pages go on from a name and not from a token, so that each stands alone."""
        start = {"StartAfter": last} if last else {}
        page = self._ask(place, "list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=most, **start)
        keys = [found["Key"] for found in page.get("Contents", ())]
        if (
            "IsTruncated" not in page
            or page.get("KeyCount", len(keys)) != len(keys)
            or (page["IsTruncated"] and not keys)
        ):
            raise PassingError(f"{place}: a page of the listing is not whole")
        if any(a >= b for a, b in zip([last, *keys], keys, strict=False) if a):
            raise OSError(f"{place}: the store does not list its names in their order, which Albumen relies on")
        return page

    def _delete_batch(self, bucket: str, keys: Sequence[str]) -> None:
        left = [*dict.fromkeys(keys)]
        refused: dict[str, str] = {}
        place = f"s3://{bucket}"

        def attempt() -> None:
            delete = {"Objects": [{"Key": key} for key in left]}
            answer = self._ask(place, "delete_objects", Bucket=bucket, Delete=delete)
            gone = {found.get("Key") for found in answer.get("Deleted", ())}
            for found in answer.get("Errors", ()):
                if found.get("Code") not in _PASSING_KEYS:
                    refused[found["Key"]] = found.get("Code", "")
            left[:] = [key for key in left if key not in gone and key not in refused]
            if left:
                raise PassingError(
                    f"{place}: {len(left):,} of {len(keys):,} names were not deleted, {left[0]!r} among them"
                )

        try:
            self._persist(attempt)
        except OSError as error:
            if error.errno not in _MANY_DELETES_UNKNOWN or isinstance(error, (GaveUpError, PermissionError)):
                raise
            for key in left:
                self.delete(f"{place}/{key}")
        if refused:
            named = ", ".join(f"{key} ({code})" for key, code in list(refused.items())[:10])
            raise OSError(f"{place}: {len(refused):,} names could not be deleted: {named}")


_PASSING_KEYS = {"InternalError", "ServiceUnavailable", "SlowDown", "OperationAborted", "ConditionalRequestConflict"}


def _entry(found: Mapping[str, Any], key: str, uri: str) -> Entry:
    etag, modified = found.get("ETag"), found.get("LastModified")
    return Entry(
        key,
        uri,
        found.get("Size"),
        None if etag is None else etag.strip('"'),
        modified=None if modified is None else modified.astimezone(UTC),
    )
