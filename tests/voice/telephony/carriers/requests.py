"""What a carrier posts to our webhooks, and how."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request

from tests.carriers.calls import Call
from tests.carriers.network import StandIn
from tests.voice.telephony.processes import CALLER, NUMBER


def ring(stand_in: StandIn, **of: str) -> dict[str, str]:
    """Return what a carrier posts when somebody calls."""
    call = Call(sid="CA1", from_number=CALLER, to_number=NUMBER, steps=[])
    return {**stand_in.form(call), **of}


def post(url: str, form: dict[str, str], headers: dict[str, str]) -> tuple[int, str]:
    request = urllib.request.Request(url, urllib.parse.urlencode(form).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as problem:
        with problem:
            return problem.code, ""
