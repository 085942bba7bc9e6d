"""Requests to carriers that need no SDK."""

from __future__ import annotations

from typing import Any

import requests

from voice.telephony.carriers.contract import CarrierRefused
from voice.telephony.models import CarrierAccount

TIMEOUT_SECONDS = 10.0


def ask(account: CarrierAccount, method: str, url: str, **options: Any) -> dict[str, Any]:
    """Return the answer's JSON.

    Raises:
        CarrierRefused
    """
    name = account.get_carrier_display()
    try:
        answer = requests.request(method, url, timeout=TIMEOUT_SECONDS, allow_redirects=False, **options)
    except requests.RequestException as problem:
        raise unreachable(name) from problem
    if answer.ok:
        try:
            document = answer.json()
        except ValueError as problem:
            raise unreachable(name) from problem
        return document if isinstance(document, dict) else {}
    raise refused(name, answer.status_code, answer.text)


def refused(name: str, status: int, words: str) -> CarrierRefused:
    """Return what an answer of the status given means."""
    if status in (401, 403):
        return CarrierRefused(f"{name} does not accept this account and token.", permanent=True)
    permanent = 400 <= status < 500 and status != 429
    return CarrierRefused(f"{name} refused: {words[:200]}", permanent=permanent, is_unknown=status == 404)


def unreachable(name: str) -> CarrierRefused:
    return CarrierRefused(f"{name} cannot be reached: try again in a minute.", permanent=False)
