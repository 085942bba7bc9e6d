"""Reading the bodies of Stripe's requests: forms whose names nest, `items[0][price]=price_1`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

PARTS = re.compile(r"\[([^\]]*)\]")


def read_form(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the objects and lists that names with brackets stand for. Values stay strings, but true and false."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        keys = [name.split("[", 1)[0], *PARTS.findall(name)]
        here = found
        for key, following in zip(keys, keys[1:], strict=False):
            here = here.setdefault(key, {})
            if following == "":
                break
        last = keys[-1] if keys[-1] != "" else str(len(here))
        here[last] = {"true": True, "false": False}.get(value, value)
    return _with_lists(found)


def _with_lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {key: _with_lists(each) for key, each in value.items()}
    if inner and all(key.isdigit() for key in inner):
        return [inner[key] for key in sorted(inner, key=int)]
    return inner
