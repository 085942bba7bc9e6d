"""What callers are told where no agent tells them. Twilio speaks it itself; over SIP it is played (see clips)."""

from __future__ import annotations

from gpu_workers.protocol import CloseCode
from voice.telephony.bridge import EndKind

NOT_IN_SERVICE = "This number is not in service at the moment. Please call again later."
SORRY = "I am sorry, something went wrong on our side. Please call again."
BUSY = "I am sorry, all our lines are busy. Please call again in a few minutes."
NOBODY = "I am sorry, nobody can take your call at the moment. We will call you back."
ALL = (NOT_IN_SERVICE, SORRY, BUSY, NOBODY)

_BUSY_CODES = {
    CloseCode.TENANT_BUSY,
    CloseCode.TRY_AGAIN_LATER,
    CloseCode.WORKER_AT_CAPACITY,
    CloseCode.RATE_LIMITED,
    CloseCode.FLEET_BUSY,
}
_CLOSED_IN_WORDS = {CloseCode.TIME_LIMIT, CloseCode.SPEND_CAP}


def after(kind: str, close_code: int | None) -> str | None:
    """Return what a caller is told whose leg ended so; of a transfer, where nobody took it. None: all was said."""
    if kind == EndKind.TRANSFERRED:
        return NOBODY
    if kind == EndKind.REFUSED:
        return BUSY if close_code in _BUSY_CODES else SORRY
    if kind == EndKind.LOST and close_code not in _CLOSED_IN_WORDS:
        return SORRY
    return None
