"""Recordings after their calls: one file made of each, and deleted when its time has come. As tasks see it."""

from __future__ import annotations

import uuid

import structlog
from django.db import connections
from django.utils import timezone

from billing.entitlements import entitlements_of
from billing.models import Subscription
from content import recordings
from content.keys import TenantKeyDeleted, key_is_deleted, tenant_key
from content.models import CLAIM, Recording
from tenants.models import Tenant
from tenants.scope import enter_operator, enter_tenant
from voice.models import Call
from voice.muxing import NothingRecorded, mux

log = structlog.get_logger(__name__)

GATEWAY_LOST_SECONDS = 60
"""A recording that was not finished when its call has ended for so long lost its gateway: there is no more to come."""
MOST_FAILURES = 10
"""Of deletions in one run. Each may take as long as the storage's limits let it."""

_DUE_SQL = """
    SELECT recording.tenant_id, recording.call_id
    FROM content_recording recording JOIN voice_call call ON call.id = recording.call_id
    WHERE (recording.state = 'recording' OR recording.state = 'making' AND recording.claimed_at < %s)
        AND call.status = 'ended'
        AND (recording.stopped_at IS NOT NULL OR call.ended_at < now() - make_interval(secs => %s))
    ORDER BY recording.started_at LIMIT 200
"""


def due_recordings() -> list[tuple[uuid.UUID, uuid.UUID]]:
    """Return (tenant, call) of recordings whose calls are over, and of which no file was made yet. As the operator."""
    with enter_operator("beat", reason="recordings to be made"), connections["operator"].cursor() as cursor:
        cursor.execute(_DUE_SQL, [timezone.now() - CLAIM, GATEWAY_LOST_SECONDS])
        return cursor.fetchall()


def make_recording(tenant_id: uuid.UUID, call_id: uuid.UUID) -> bool:
    """Make the file of a recording; False where it is not for us to make, or where there is nothing to be heard.

    Decoding takes seconds: no transaction stands open meanwhile.
    """
    with enter_tenant(tenant_id):
        recording = recordings.claim_recording(call_id)
        if recording is None:
            return False
        try:
            key = tenant_key(tenant_id)
        except TenantKeyDeleted:
            recordings.delete_recording(recording)
            return False
    try:
        return _make_file(recording, key)
    except OSError:
        log.exception("recording.put_off", call_id=str(call_id))
        with enter_tenant(tenant_id):
            recordings.put_off(recording)
        return False


def _make_file(recording: Recording, key: bytes) -> bool:
    tenant_id, call_id = recording.tenant_id, recording.call_id
    try:
        muxed = mux(recordings.read_parts(key=key, tenant_id=tenant_id, call_id=call_id))
    except NothingRecorded as problem:
        with enter_tenant(tenant_id):
            recordings.give_up(recording, str(problem))
        return False
    with enter_tenant(tenant_id):
        recordings.keep_file(
            recording,
            muxed.ogg_opus,
            duration_ms=muxed.duration_ms,
            begins_at_ms=muxed.begins_at_ms,
            problem=muxed.problem,
        )
    log.info("recording.made", call_id=str(call_id), duration_ms=muxed.duration_ms, bytes=len(muxed.ogg_opus))
    return True


def delete_expired_recordings() -> int:
    """Delete what plans and agents no longer let be kept, and all of tenants without a key; return how many.

    Each in a transaction of its own: what is gone from the storage is gone from the page, whatever the next one meets.
    One that cannot be deleted holds up no other; where none can, the storage is away, and the next run tries again.
    """
    with enter_operator("beat", reason="recordings to be deleted"):
        tenants = list(Tenant.objects.values_list("pk", flat=True))
    deleted = failed = 0
    for tenant_id in tenants:
        with enter_tenant(tenant_id):
            expired = _to_be_deleted()
        for recording in expired:
            if failed == MOST_FAILURES:
                break
            try:
                with enter_tenant(tenant_id):
                    recordings.delete_recording(recording)
                deleted += 1
            except OSError:
                log.exception("recording.not_deleted", call_id=str(recording.call_id))
                failed += 1
    if deleted or failed:
        log.info("recordings.deleted", deleted=deleted, failed=failed)
    return deleted


def _to_be_deleted() -> list[Recording]:
    if key_is_deleted():
        return list(Recording.objects.exclude(state=Recording.State.DELETED))
    if not Subscription.objects.exists():
        return []  # nothing says for how long
    days = entitlements_of().retention_days
    return [each for each in recordings.expired_recordings(plan_days=days) if not _is_live(each)]


def _is_live(recording: Recording) -> bool:
    return Call.objects.live().filter(pk=recording.call_id).exists()
