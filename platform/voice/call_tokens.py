"""The token with which a worker runs an agent's tools during one call: signed, and of no use after it."""

from __future__ import annotations

import uuid

from django.core import signing

_SALT = "voice.call_tokens"
# The longest call and some: the endpoint also asks whether the call still lasts.
MAX_AGE_SECONDS = 2 * 3600


def issue_call_token(*, call_id: uuid.UUID, tenant_id: uuid.UUID) -> str:
    return signing.dumps([call_id.hex, tenant_id.hex], salt=_SALT)


def read_call_token(token: str) -> tuple[uuid.UUID, uuid.UUID] | None:
    """Return (call id, tenant id), or None where the token is not ours or is too old."""
    try:
        call_id, tenant_id = signing.loads(token, salt=_SALT, max_age=MAX_AGE_SECONDS)
        return uuid.UUID(call_id), uuid.UUID(tenant_id)
    except (signing.BadSignature, ValueError, TypeError):
        return None
