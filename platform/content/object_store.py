"""Recordings in a store for objects that speaks S3's protocol, at Amazon or elsewhere: RECORDINGS_STORAGE names it.

django-storages brings the options, the names and the credentials. What it does not do is here: no operation takes
longer than a call's writer can wait, threads share what may be shared, a part of a file is fetched as a part, and what
goes wrong is an OSError, as it is with files.
See also: docs/operations.md, for the options.
"""

from __future__ import annotations

import contextlib
import errno
import io
from collections.abc import Iterator
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import File
from storages.backends.s3 import S3Storage
from storages.utils import clean_name

ATTEMPTS = 2
MOST_CONNECTIONS = 10
NO_SUCH_OBJECT = {"NoSuchKey", "404"}
"""The number is all that HEAD says. A missing bucket is not among them: what lay in it may still be somewhere."""


class ObjectStore(S3Storage):
    """A bucket. Options are those of django-storages, and `connect_seconds` and `read_seconds`.

    Raises:
        ImproperlyConfigured: an option is missing or unknown. From all else: OSError.
    """

    client_config: Config
    connect_seconds: float
    read_seconds: float

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if not self.bucket_name:
            raise ImproperlyConfigured("RECORDINGS_STORAGE_OPTIONS must name the bucket, as bucket_name.")
        # A name is never used twice. To look first would cost a request, and another writer could still come between.
        self.file_overwrite = True
        bounds = Config(
            connect_timeout=self.connect_seconds,
            read_timeout=self.read_seconds,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            max_pool_connections=MOST_CONNECTIONS,
            # Whatever is kept is authenticated by its encryption, and not every store knows the newer checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        self.client_config = self.client_config.merge(bounds)
        # Made now: it takes a tenth of a second. boto3's clients may be shared by threads, its resources may not.
        with _as_os_errors(self.bucket_name):
            self._connection = super().connection
        self._client = self._connection.meta.client

    def get_default_settings(self) -> dict[str, Any]:
        return {**super().get_default_settings(), "connect_seconds": 2.0, "read_seconds": 4.0}

    @property
    def connection(self) -> Any:
        return self._connection

    def _key(self, name: str) -> str:
        return str(self._normalize_name(clean_name(name)))

    def _open(self, name: str, mode: str = "rb") -> File[bytes]:
        if mode != "rb":
            raise ValueError("Objects are opened for reading bytes alone.")
        return File(_Object(self._client, self.bucket_name, self._key(name)), name)  # type: ignore[arg-type]

    def _save(self, name: str, content: Any) -> str:
        """Store it in one request: it is there as a whole, or not at all."""
        key = self._key(name)
        with _as_os_errors(name):
            self._client.put_object(
                Bucket=self.bucket_name, Key=key, Body=content.read(), **self._get_write_parameters(key, content)
            )
        return str(clean_name(name))

    def delete(self, name: str) -> None:
        """Remove an object. That there is none is no error."""
        with _as_os_errors(name):
            self._client.delete_object(Bucket=self.bucket_name, Key=self._key(name))

    def exists(self, name: str) -> bool:
        with _as_os_errors(name):
            return bool(super().exists(name))

    def listdir(self, name: str) -> tuple[list[str], list[str]]:
        """Return folders and files; where there are none, that is no error either."""
        with _as_os_errors(name):
            folders, files = super().listdir(name)
        return folders, files


class _Object(io.RawIOBase):
    """An object that stands open: each reading is one request, for just these bytes."""

    def __init__(self, client: Any, bucket: str, key: str) -> None:
        self._client = client
        self._where = {"Bucket": bucket, "Key": key}
        self._at = 0

    @property
    def size(self) -> int:
        with _as_os_errors(self._where["Key"]):
            return int(self._client.head_object(**self._where)["ContentLength"])

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        if size == 0:
            return b""
        last = "" if size is None or size < 0 else self._at + size - 1
        try:
            with _as_os_errors(self._where["Key"]):
                answer = self._client.get_object(**self._where, Range=f"bytes={self._at}-{last}")
                with contextlib.closing(answer["Body"]) as body:
                    piece: bytes = body.read()
        except _BeyondEnd:
            return b""
        self._at += len(piece)
        return piece


class _BeyondEnd(OSError):
    pass


@contextlib.contextmanager
def _as_os_errors(name: str) -> Iterator[None]:
    try:
        yield
    except ClientError as problem:
        code = problem.response.get("Error", {}).get("Code", "")
        if code in NO_SUCH_OBJECT:
            raise FileNotFoundError(errno.ENOENT, "There is no such object", name) from problem
        kind = _BeyondEnd if code == "InvalidRange" else OSError
        raise kind(errno.EIO, f"The store refused: {problem}", name) from problem
    except BotoCoreError as problem:
        raise OSError(errno.EIO, f"The store cannot be reached: {problem}", name) from problem
