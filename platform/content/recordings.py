"""Recordings of calls: parts that the gateway keeps while a call lasts, and the one file that is made of them.

Both are encrypted with the tenant's key and lie in the storage `recordings` (STORAGES). A part is a few seconds of both
directions, as entries: direction, milliseconds since the call began, and the audio message's payload as it passed. So
the parts are their own index: one timeline for both directions, however often a stream begins anew.
It knows nothing of calls but their ids, and nothing of sound. See also: voice.recording, voice.muxing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import io
import secrets
import struct
import uuid
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import structlog
from django.core.files.base import ContentFile
from django.core.files.storage import Storage, storages
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from content.crypto import DecryptionFailed
from content.encrypted_files import EncryptedFile, encrypt_file
from content.keys import tenant_key, tenant_key_async
from content.models import Recording
from tenants.scope import current_alias

if TYPE_CHECKING:
    import psycopg

log = structlog.get_logger(__name__)

CALLER, AGENT = 0, 1
MOST_ATTEMPTS = 3
"""To make a file of what was recorded; somebody who was lost at it counts."""

_ENTRY = struct.Struct("<BII")
_BEGIN_SQL = """
    INSERT INTO content_recording (
        id, tenant_id, call_id, state, started_at, keep_days, problem, file, bytes, duration_ms, begins_at_ms, attempts
    ) VALUES (%s, %s, %s, 'recording', now(), %s, '', '', 0, 0, 0, 0) ON CONFLICT (tenant_id, call_id)
        DO UPDATE SET stopped_at = NULL WHERE content_recording.state = 'recording'
"""
"""Another gateway may have had the call before: what that one recorded is a part of it."""
_STOP_SQL = """
    UPDATE content_recording
    SET stopped_at = CASE WHEN %s THEN clock_timestamp() ELSE stopped_at END,
        problem = coalesce(nullif(problem, ''), left(%s, 200))
    WHERE tenant_id = %s AND call_id = %s AND state = 'recording'
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One audio message. `direction`: CALLER or AGENT; `at_ms`: since the call began; `payload`: Ogg Opus."""

    direction: int
    at_ms: int
    payload: bytes


def open_storage() -> None:
    """Make the storage's client now. It takes a moment, in which calls would be held up."""
    _storage()


# --- while a call lasts, from the gateway -----------------------------------------------------------------------------
async def begin_recording(
    connection: psycopg.AsyncConnection[Any], *, tenant_id: uuid.UUID, call_id: uuid.UUID, keep_days: int | None
) -> bytes:
    """Note that a call is recorded, and return the key to encrypt its parts with.

    Raises:
        TenantKeyDeleted
    """
    key = await tenant_key_async(connection, tenant_id)
    await connection.execute(_BEGIN_SQL, (uuid.uuid4(), tenant_id, call_id, keep_days))
    return key


async def stop_recording(
    connection: psycopg.AsyncConnection[Any], *, tenant_id: uuid.UUID, call_id: uuid.UUID, problem: str, is_all: bool
) -> None:
    """Note that no further parts come, if that is all. `problem`: a sentence on why it is not whole, or empty."""
    await connection.execute(_STOP_SQL, (is_all, problem, tenant_id, call_id))


def write_part(*, key: bytes, tenant_id: uuid.UUID, call_id: uuid.UUID, entries: Sequence[Entry]) -> None:
    """Encrypt and store a part. Blocks; storages raise what they will."""
    name = f"{entries[0].at_ms:010}-{secrets.token_hex(4)}.part"
    plain = b"".join(_ENTRY.pack(each.direction, each.at_ms, len(each.payload)) + each.payload for each in entries)
    encrypted = encrypt_file(key, plain, _part_context(call_id, name))
    _storage().save(f"{folder_of(tenant_id, call_id)}/{name}", ContentFile(encrypted))


# --- afterwards, in the entered tenant --------------------------------------------------------------------------------
def read_parts(*, key: bytes, tenant_id: uuid.UUID, call_id: uuid.UUID) -> Iterator[Entry]:
    """Yield what was recorded, in order. A part that was not written to its end is left out."""
    storage, folder = _storage(), folder_of(tenant_id, call_id)
    for name in sorted(each for each in _files_in(storage, folder) if each.endswith(".part")):
        with storage.open(f"{folder}/{name}") as file:
            encrypted = file.read()
        try:
            plain = EncryptedFile(
                io.BytesIO(encrypted), encrypted_bytes=len(encrypted), key=key, context=_part_context(call_id, name)
            ).read()
        except DecryptionFailed:
            log.warning("recording.part_lost", call_id=str(call_id), part=name)
            continue
        yield from _entries(plain)


def _entries(plain: bytes) -> Iterator[Entry]:
    at = 0
    while at < len(plain):
        direction, at_ms, size = _ENTRY.unpack_from(plain, at)
        at += _ENTRY.size
        yield Entry(direction, at_ms, plain[at : at + size])
        at += size


def claim_recording(call_id: uuid.UUID) -> Recording | None:
    """Return the entered tenant's recording if it is for us to make a file of; nobody else gets it meanwhile."""
    now = timezone.now()
    claimed = (
        Recording.objects.to_be_made(now)
        .filter(call_id=call_id)
        .update(state=Recording.State.MAKING, claimed_at=now, attempts=F("attempts") + 1)
    )
    if not claimed:
        return None
    recording = Recording.objects.of_call(call_id).get()
    if recording.attempts > MOST_ATTEMPTS:
        give_up(recording, "No file could be made of what was recorded.")
        return None
    return recording


def keep_file(recording: Recording, plain: bytes, *, duration_ms: int, begins_at_ms: int, problem: str = "") -> None:
    """Store a recording's one file, and remove its parts."""
    folder = folder_of(recording.tenant_id, recording.call_id)
    encrypted = encrypt_file(tenant_key(recording.tenant_id), plain, _file_context(recording.call_id))
    recording.file = _storage().save(f"{folder}/{secrets.token_hex(8)}.opus.encrypted", ContentFile(encrypted))
    recording.bytes, recording.duration_ms, recording.begins_at_ms = len(plain), duration_ms, begins_at_ms
    recording.problem = recording.problem or problem[:200]
    recording.state = Recording.State.READY
    recording.save()
    # Not sooner: what is removed does not come back where this is not written after all.
    # Robust: parts that cannot be removed now go with the recording.
    transaction.on_commit(functools.partial(_remove, recording, but=recording.file), using=current_alias(), robust=True)


def put_off(recording: Recording) -> None:
    """Leave a claimed recording to be made when the claim has run out: its storage is away, and it is not to blame."""
    Recording.objects.filter(pk=recording.pk, state=Recording.State.MAKING).update(attempts=F("attempts") - 1)


def give_up(recording: Recording, problem: str) -> None:
    """Note that there is nothing to be played, and remove what there is."""
    recording.state, recording.problem = Recording.State.FAILED, recording.problem or problem[:200]
    recording.save()
    _remove(recording)


@contextlib.contextmanager
def opened_recording(recording: Recording) -> Iterator[EncryptedFile]:
    """Hold the file of a recording that is ready, open.

    Raises:
        DecryptionFailed, TenantKeyDeleted, OSError
    """
    key = tenant_key(recording.tenant_id)
    file: Any
    with _storage().open(recording.file) as file:
        yield EncryptedFile(file, encrypted_bytes=file.size, key=key, context=_file_context(recording.call_id))


def delete_recording(recording: Recording) -> None:
    """Remove all that was recorded; the row says that there was something."""
    _remove(recording)
    recording.state, recording.file, recording.deleted_at = Recording.State.DELETED, "", timezone.now()
    recording.save()


def expired_recordings(*, plan_days: int) -> list[Recording]:
    """Return the entered tenant's recordings that are older than its plan, or their agent, lets them be."""
    now = timezone.now()
    return [
        recording
        for recording in Recording.objects.exclude(state=Recording.State.DELETED)
        if recording.started_at + datetime.timedelta(days=min(plan_days, recording.keep_days or plan_days)) <= now
    ]


def folder_of(tenant_id: uuid.UUID, call_id: uuid.UUID) -> str:
    return f"{tenant_id}/{call_id}"


def _remove(recording: Recording, *, but: str = "") -> None:
    storage, folder = _storage(), folder_of(recording.tenant_id, recording.call_id)
    for name in _files_in(storage, folder):
        if (path := f"{folder}/{name}") != but:
            storage.delete(path)
    if not but:
        with contextlib.suppress(OSError):  # a part that came too late: whatever is left is encrypted
            storage.delete(folder)


def _files_in(storage: Storage, folder: str) -> list[str]:
    try:
        return storage.listdir(folder)[1]
    except FileNotFoundError:
        return []


def _storage() -> Storage:
    return storages["recordings"]


def _part_context(call_id: uuid.UUID, name: str) -> bytes:
    return f"part {call_id} {name}".encode()


def _file_context(call_id: uuid.UUID) -> bytes:
    return f"recording {call_id}".encode()
