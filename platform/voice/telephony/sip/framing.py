"""Messages in a stream (RFC 3261, section 18.3): each says how long its body is. Between them are keep-alives."""

from __future__ import annotations

import re

LONGEST_MESSAGE_BYTES = 16_384
MOST_WAITING_BYTES = 512 * 1024
"""What has come and is not looked at yet: reading stops long before."""
PING, PONG = b"\r\n\r\n", b"\r\n"
"""RFC 5626, section 4.4.1."""
HEAD_ENDS = b"\r\n\r\n"
LENGTH = re.compile(rb"^(?:content-length|l)[ \t]*:[ \t]*(\d{1,7})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)


class BadStream(ValueError):
    """Where the next message begins cannot be known. The sentence is for the log."""


class Framer:
    """What came of one connection, in pieces of any size."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    @property
    def has_begun(self) -> bool:
        """Whether a part of a message waits for its rest."""
        return bool(self._waiting)

    def append(self, data: bytes) -> None:
        """
        Raises:
            BadStream
        """
        if len(self._waiting) + len(data) > MOST_WAITING_BYTES:
            raise BadStream("more waits than is kept")
        self._waiting += data

    def take(self) -> bytes | None:
        """Return the next message, a PING, or a PONG; None where its rest has not come yet.

        Raises:
            BadStream
        """
        waiting = self._waiting
        if waiting.startswith(PING):
            return self._cut(len(PING))
        if waiting.startswith(PONG):
            # Perhaps a ping of which one half has come. Its other half makes a second pong, and no harm.
            return self._cut(len(PONG))
        ends = waiting.find(HEAD_ENDS, 0, LONGEST_MESSAGE_BYTES)
        if ends < 0:
            if len(waiting) >= LONGEST_MESSAGE_BYTES:
                raise BadStream("a message is too long")
            return None
        lengths = {int(each) for each in LENGTH.findall(bytes(waiting[: ends + 2]))}
        if len(lengths) != 1:
            raise BadStream("a message does not say how long it is")
        whole = ends + len(HEAD_ENDS) + lengths.pop()
        if whole > LONGEST_MESSAGE_BYTES:
            raise BadStream("a message is too long")
        return self._cut(whole) if len(waiting) >= whole else None

    def _cut(self, length: int) -> bytes:
        taken = bytes(self._waiting[:length])
        del self._waiting[:length]
        return taken
