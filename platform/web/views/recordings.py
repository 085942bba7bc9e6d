"""The sound of a call, as its page plays it."""

from __future__ import annotations

import datetime
import re
import uuid

import structlog
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from content.crypto import DecryptionFailed
from content.encrypted_files import EncryptedFile
from content.keys import TenantKeyDeleted
from content.models import Recording
from content.recordings import opened_recording
from tenants import audit
from tenants.access import TenantRequest, tenant_access
from tenants.models import AuditEntry, Role
from voice.records import find_call

log = structlog.get_logger(__name__)

LISTENING = datetime.timedelta(hours=1)
"""A player asks for many parts, and again when one listens twice: so long it is one entry in the audit trail."""
_RANGE = re.compile(r"bytes=(\d*)-(\d*)$")


@tenant_access(Role.VIEWER)
@require_safe
@never_cache
def recording(request: TenantRequest, call_id: uuid.UUID) -> HttpResponse:
    """Answer with a call's recording, or with the part of it that `Range` asks for (RFC 9110, section 14).

    What cannot be read, now or ever, is 404; a store that does not answer is 503.
    """
    found = Recording.objects.of_call(call_id).filter(state=Recording.State.READY).first()
    if found is None:
        raise Http404("This call has no recording.")
    try:
        with opened_recording(found) as file:
            answer = _answer(file, request.headers.get("Range", ""))
    except (DecryptionFailed, TenantKeyDeleted, FileNotFoundError) as problem:
        raise Http404("This recording cannot be read.") from problem
    except OSError as problem:
        log.warning("recording.store_away", call_id=str(call_id), problem=str(problem))
        away = render(request, "web/calls/recording_away.html", status=503)
        away.headers["Retry-After"] = "60"
        return away
    answer.headers["Accept-Ranges"] = "bytes"
    is_download = "download" in request.GET
    name = f"call-{timezone.localtime(found.started_at):%Y-%m-%d-%H%M}-{str(call_id)[:8]}.opus"
    answer.headers["Content-Disposition"] = f'{"attachment" if is_download else "inline"}; filename="{name}"'
    if request.method == "GET" and answer.status_code != 416:
        _note(request, call_id, is_download=is_download)
    return answer


def _answer(file: EncryptedFile, asked: str) -> HttpResponse:
    match = _RANGE.match(asked)
    if match is None or match.group(0) == "bytes=-":  # none, or several at once, which nobody needs
        return HttpResponse(file.read(), content_type="audio/ogg")
    first, last = match.groups()
    begin = int(first) if first else max(0, file.size - int(last))
    end = min(int(last) + 1, file.size) if first and last else file.size
    if begin >= end:
        return HttpResponse(status=416, headers={"Content-Range": f"bytes */{file.size}"})
    part = HttpResponse(file.read(begin, end), content_type="audio/ogg", status=206)
    part.headers["Content-Range"] = f"bytes {begin}-{end - 1}/{file.size}"
    return part


def _note(request: TenantRequest, call_id: uuid.UUID, *, is_download: bool) -> None:
    action = "recording.downloaded" if is_download else "recording.listened"
    target = f"Call {find_call(call_id).pk}"
    lately = AuditEntry.objects.filter(
        actor=request.user, action=action, target=target, occurred_at__gt=timezone.now() - LISTENING
    )
    if is_download or not lately.exists():
        audit.record(action=action, target=target, actor=request.user)
