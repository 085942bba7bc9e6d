"""What somebody reads on a page."""

from __future__ import annotations

import re


def words(html: str) -> str:
    """Return a page's text, each stretch of white space as one space."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))
