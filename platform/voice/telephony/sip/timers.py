"""Session timers (RFC 4028): a side that does not say now and then that it is there is taken to be gone."""

from __future__ import annotations

import time

from aiosipua import SipRequest, SipResponse
from aiosipua.session_timer import parse_session_expires, watchdog_delay

SHORT_NAME = "x"
"""Of Session-Expires, which aiosipua does not know."""


class SessionTimer:
    """Of one call. The peer refreshes, unless it wants us to."""

    def __init__(self, shortest_seconds: int) -> None:
        self.shortest_seconds = shortest_seconds
        self._seconds = 0
        """Zero: no timer was asked for."""
        self._is_ours = False
        self._refreshed_at = 0.0

    def is_too_short(self, request: SipRequest) -> bool:
        return 0 < _read(request)[0] < self.shortest_seconds

    def hear(self, request: SipRequest) -> None:
        """Take in what a request of the peer's asks for; it is a refresh by itself."""
        seconds, refresher = _read(request)
        if seconds:
            self._seconds, self._is_ours = seconds, refresher == "uas"
        self.refreshed()

    def refreshed(self) -> None:
        self._refreshed_at = time.monotonic()

    def has_expired(self, now: float) -> bool:
        return bool(self._seconds) and now - self._refreshed_at > watchdog_delay(self._seconds) and not self._is_ours

    def is_due(self, now: float) -> bool:
        return bool(self._seconds) and self._is_ours and now - self._refreshed_at > self._seconds / 2

    def write(self, response: SipResponse) -> None:
        """Say in a 2xx who refreshes, and how often."""
        if self._seconds:
            response.headers.set_single(
                "Session-Expires", f"{self._seconds};refresher={'uas' if self._is_ours else 'uac'}"
            )
            if not self._is_ours:
                response.headers.set_single("Require", "timer")

    def write_refresh(self, request: SipRequest) -> None:
        request.headers.set_single("Session-Expires", f"{self._seconds};refresher=uac")


def _read(request: SipRequest) -> tuple[int, str | None]:
    value = request.get_header("session-expires") or request.get_header(SHORT_NAME)
    return parse_session_expires(value) if value else (0, None)
