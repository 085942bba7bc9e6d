"""What recordings ask of their storage, of a folder and of a store for objects alike; and the store when it is away."""

from __future__ import annotations

import datetime
import socket
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.utils import timezone

from config import checks
from content import recordings
from content.encrypted_files import PIECE_BYTES, encrypt_file
from content.models import Recording
from content.object_store import ObjectStore
from content.recordings import AGENT, CALLER, Entry
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.object_server import ObjectServer
from tests.recording_stores import Objects, Store

KEY = b"k" * 32


def test_operations_do_the_same_on_both(store: Store) -> None:
    storage, folder = storages["recordings"], f"{uuid.uuid4()}/{uuid.uuid4()}"
    assert recordings._files_in(storage, folder) == []
    assert storage.save(f"{folder}/one.part", ContentFile(b"0123456789")) == f"{folder}/one.part"
    storage.save(f"{folder}0/other.part", ContentFile(b"of another call"))
    storage.save(f"{folder}/empty.part", ContentFile(b""))
    assert sorted(storage.listdir(folder)[1]) == store.names(folder) == ["empty.part", "one.part"]
    assert storage.exists(f"{folder}/one.part") and not storage.exists(f"{folder}/two.part")
    with storage.open(f"{folder}/one.part") as file:
        assert (file.size, file.read(3), file.read(3), file.read(), file.read()) == (10, b"012", b"345", b"6789", b"")
        file.seek(8)
        assert (file.read(100), file.tell()) == (b"89", 10)
    with storage.open(f"{folder}/empty.part") as file:
        assert (file.size, file.read(11), file.read()) == (0, b"", b"")
    with pytest.raises(FileNotFoundError), storage.open(f"{folder}/two.part") as file:
        file.read()
    storage.delete(f"{folder}/one.part")
    storage.delete(f"{folder}/one.part")
    assert recordings._files_in(storage, folder) == ["empty.part"]


def test_threads_write_at_once_and_all_is_read_in_order(store: Store) -> None:
    tenant_id, call_id = uuid.uuid4(), uuid.uuid4()
    entries = [Entry(at % 2, at * 20, f"{at}".encode() * 50) for at in range(400)]

    def write(at: int) -> None:
        recordings.write_part(key=KEY, tenant_id=tenant_id, call_id=call_id, entries=entries[at : at + 10])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(0, 400, 10)))
    assert {CALLER, AGENT} == {each.direction for each in entries}
    assert list(recordings.read_parts(key=KEY, tenant_id=tenant_id, call_id=call_id)) == entries


def test_more_parts_than_a_store_lists_at_once_are_all_found_and_removed(acme: Tenant, store: Store) -> None:
    with enter_tenant(acme.id):
        recording = Recording.objects.create(call_id=uuid.uuid4(), stopped_at=timezone.now())
    folder = recordings.folder_of(acme.id, recording.call_id)
    storage = storages["recordings"]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda at: storage.save(f"{folder}/{at:010}.part", ContentFile(b"x")), range(1010)))
    assert len(recordings._files_in(storage, folder)) == 1010
    with enter_tenant(acme.id):
        recordings.delete_recording(recording)
    assert store.names(folder) == []


@pytest.fixture
def frozen(object_server: ObjectServer) -> Iterator[ObjectServer]:
    """A store that takes connections and says nothing."""
    object_server.freeze()
    yield object_server
    object_server.thaw()


def test_a_part_of_a_recording_is_fetched_as_a_part(objects: Objects, acme: Tenant, keep_recordings_in: Any) -> None:
    keep_recordings_in(objects.settings)
    sound = bytes(range(256)) * 4096  # 16 pieces
    with enter_tenant(acme.id):
        recording = Recording.objects.create(call_id=uuid.uuid4(), stopped_at=timezone.now())
        recordings.keep_file(recording, sound, duration_ms=1000, begins_at_ms=0)
        ranges: list[str] = []
        events = storages["recordings"].connection.meta.client.meta.events
        events.register("before-send.s3.GetObject", lambda request, **_: ranges.append(str(request.headers["Range"])))
        with recordings.opened_recording(recording) as file:
            assert file.read(PIECE_BYTES - 5, PIECE_BYTES + 5) == sound[PIECE_BYTES - 5 : PIECE_BYTES + 5]
            assert file.read() == sound
    begins_and_ends = [each.split("'")[-2] if "'" in each else each for each in ranges]
    header, two_pieces, whole = begins_and_ends
    assert header == "bytes=0-10"
    assert two_pieces == f"bytes=11-{10 + 2 * (PIECE_BYTES + 16)}"
    assert whole == f"bytes=11-{10 + 16 * (PIECE_BYTES + 16)}"
    assert len(encrypt_file(KEY, sound, b"")) == 11 + 16 * (PIECE_BYTES + 16)


@pytest.mark.parametrize("operation", ["save", "read", "size", "list", "delete", "exists"])
def test_no_operation_waits_for_long(objects: Objects, frozen: ObjectServer, operation: str) -> None:
    storage = ObjectStore(**frozen.options, connect_seconds=0.3, read_seconds=0.3)
    began = time.monotonic()
    with pytest.raises(OSError, match="cannot be reached"):
        OPERATIONS[operation](storage)
    assert time.monotonic() - began < 5  # two attempts, each with a second for 100 (Continue), and a second between


OPERATIONS: dict[str, Any] = {
    "save": lambda storage: storage.save("a/b", ContentFile(b"x" * 100_000)),
    "read": lambda storage: storage.open("a/b").read(),
    "size": lambda storage: storage.open("a/b").size,
    "list": lambda storage: storage.listdir("a"),
    "delete": lambda storage: storage.delete("a/b"),
    "exists": lambda storage: storage.exists("a/b"),
}


def test_limits_are_short_where_nobody_sets_them(objects: Objects) -> None:
    storage = ObjectStore(**objects.server.options)
    config = storage.connection.meta.client.meta.config
    assert (config.connect_timeout, config.read_timeout, config.retries["total_max_attempts"]) == (2, 4, 2)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_store_that_is_not_there_is_an_os_error(objects: Objects, operation: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    storage = ObjectStore(bucket_name="b", endpoint_url=f"http://127.0.0.1:{port}", region_name="eu-central-1")
    with pytest.raises(OSError, match="cannot be reached"):
        OPERATIONS[operation](storage)


@pytest.mark.parametrize("operation", ["save", "read", "list", "delete"])
@pytest.mark.parametrize("wrong", [{"secret_key": "not-the-secret-of-it"}, {"bucket_name": "of-somebody-else"}])
def test_a_refusal_is_an_os_error_and_nothing_counts_as_gone(
    objects: Objects, operation: str, wrong: dict[str, str]
) -> None:
    options = {**objects.server.options, "access_key": objects.server.credentials["AWS_ACCESS_KEY_ID"]}
    options["secret_key"] = objects.server.credentials["AWS_SECRET_ACCESS_KEY"]
    with pytest.raises(OSError, match="The store refused") as problem:
        OPERATIONS[operation](ObjectStore(**{**options, **wrong}))
    assert not isinstance(problem.value, FileNotFoundError)
    assert options["secret_key"] not in str(problem.value) and "not-the-secret" not in str(problem.value)


def test_expired_recordings_that_a_store_does_not_give_up_stay_and_go_later(
    acme: Tenant, objects: Objects, keep_recordings_in: Any
) -> None:
    from voice import tasks

    keep_recordings_in({**objects.settings, "OPTIONS": {**objects.server.options, "read_seconds": 1}})
    with enter_tenant(acme.id):
        recording = Recording.objects.create(
            call_id=uuid.uuid4(), started_at=timezone.now() - datetime.timedelta(days=91), stopped_at=timezone.now()
        )
        recordings.keep_file(recording, b"sound", duration_ms=1000, begins_at_ms=0)
    objects.server.freeze()
    try:
        assert tasks.delete_recordings() == 0
        with enter_tenant(acme.id):
            assert Recording.objects.get().state == "ready"
    finally:
        objects.server.thaw()
    assert tasks.delete_recordings() == 1
    assert objects.names(recordings.folder_of(acme.id, recording.call_id)) == []


# --- settings ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("backend", "options", "words"),
    [
        ("content.object_store.ObjectStore", {}, "must name the bucket"),
        ("content.object_store.ObjectStore", {"bucket": "x"}, "bucket"),
        ("content.object_store.Nothing", {}, "Nothing"),
        ("django.core.files.storage.FileSystemStorage", {"place": "x"}, "place"),
    ],
)
def test_a_storage_that_cannot_be_made_is_said_by_check(
    keep_recordings_in: Any, backend: str, options: dict[str, str], words: str
) -> None:
    keep_recordings_in({"BACKEND": backend, "OPTIONS": options})
    (problem,) = checks.recordings_have_a_storage(None)
    assert problem.id == "config.E011" and words in problem.msg


def test_the_storage_that_is_set_is_in_order(store: Store) -> None:
    assert list(checks.recordings_have_a_storage(None)) == []


def test_a_bucket_must_be_named() -> None:
    with pytest.raises(ImproperlyConfigured, match="bucket_name"):
        ObjectStore()
