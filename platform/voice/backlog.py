"""Messages that wait, in their order."""

from __future__ import annotations

import collections
from typing import Generic, TypeVar

Message = TypeVar("Message", bytes, bytes | str)


class Backlog(Generic[Message]):
    """A queue that takes room only while something waits: each call has several, and an empty deque takes 760 bytes."""

    __slots__ = ("_messages",)

    def __init__(self) -> None:
        self._messages: collections.deque[Message] | None = None

    def __len__(self) -> int:
        return len(self._messages or ())

    def append(self, message: Message) -> None:
        if self._messages is None:
            self._messages = collections.deque()
        self._messages.append(message)

    def first(self) -> Message | None:
        return self._messages[0] if self._messages else None

    def popleft(self) -> Message:
        """Raises IndexError where nothing waits."""
        if self._messages is None:
            raise IndexError("nothing waits")
        message = self._messages.popleft()
        if not self._messages:
            self._messages = None
        return message

    def clear(self) -> None:
        self._messages = None
