"""Something that is not as it should be, for commands that look and for logs that tell."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """`what` names where it is, `sentence` says how it differs."""

    what: str
    sentence: str
