"""The header pages of an Ogg Opus stream, kept as they pass: who joins the stream later needs them first.

Of audio nothing else is read. Source: RFC 3533 (pages), RFC 7845 (an Opus stream begins with two pages of headers).
"""

from __future__ import annotations

from gpu_workers.protocol import Kind

MOST_BYTES = 16_384
"""Longer headers are not kept: they would hold pictures."""
MOST_MESSAGES = 4
"""Who has not sent the headers in so many messages sends no Ogg."""

_AUDIO = int(Kind.AUDIO)
_HEAD_BYTES = 27
_HEADER_PAGES = 2


class StreamHead:
    """Looks at the first messages of one stream until its header pages are known, or will never be."""

    __slots__ = ("_messages", "_seen", "is_over", "pages")

    def __init__(self) -> None:
        self.pages = b""
        """Both header pages; empty until they are known."""
        self.is_over = False
        """Nothing more is to be looked at."""
        self._seen = b""
        self._messages = 0

    def look(self, message: bytes) -> None:
        """Look at a message of the stream's side; those that are no audio tell nothing."""
        if self.is_over or not message or message[0] != _AUDIO:
            return
        self._messages += 1
        self._seen += message[1 : MOST_BYTES + 2]
        end = _end_of_headers(self._seen)
        if end is not None:
            self.pages = self._seen[:end]
        if end is not None or self._messages >= MOST_MESSAGES or len(self._seen) > MOST_BYTES:
            self.is_over, self._seen = True, b""


def _end_of_headers(stream: bytes) -> int | None:
    """Return where the header pages end; None where they are not whole, or not there."""
    at = 0
    for _ in range(_HEADER_PAGES):
        table = at + _HEAD_BYTES
        if stream[at : at + 4] != b"OggS" or len(stream) < table:
            return None
        segments = stream[at + 26]
        at = table + segments + sum(stream[table : table + segments])
        if len(stream) < max(at, table + segments):
            return None
    return at
