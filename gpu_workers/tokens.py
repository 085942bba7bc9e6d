"""Session tokens: `<session>.<hex HMAC-SHA256 of the session under the container's key>`."""

from __future__ import annotations

import hashlib
import hmac

HEADER = "Modal-Authorization"
"""The header that carries `Bearer <token>`, as on Modal."""
SESSION_HEADER = "Warmline-Session"
"""Names the session to a container whose provider has looked at the token, and may keep it."""


def sign_session(key: bytes, session: str) -> str:
    """Return the token that opens one session on the container with this key."""
    return f"{session}.{hmac.new(key, session.encode(), hashlib.sha256).hexdigest()}"


def read_session(key: bytes, header: str | None) -> str | None:
    """Return the session a header's token was signed for, or None where it was not."""
    token = (header or "").removeprefix("Bearer ").strip()
    session, _, _ = token.rpartition(".")
    return session if session and hmac.compare_digest(sign_session(key, session).encode(), token.encode()) else None
