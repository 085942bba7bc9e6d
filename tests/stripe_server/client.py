"""The stand-in as tests use it: a process, and its control."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.voice.processes import Process

KEY = "sk_test_" + "w" * 24
WEBHOOK_SECRET = "whsec_" + "w" * 32
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class StripeServer:
    """`python -m tests.stripe_server`, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "tests.stripe_server", "--key", KEY, "--webhook-secret", WEBHOOK_SECRET]
        self.process = Process(command, output=folder / "stripe.log")
        self.url: str = json.loads(self.process.first_line())["url"]

    def control(self, name: str, **given: Any) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.url}/control/{name}", data=json.dumps(given).encode(), headers={"Content-Type": "application/json"}
        )
        try:
            with _OPENER.open(request, timeout=40) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as problem:
            with problem:
                raise AssertionError(problem.read().decode()) from None

    def events(self, customer: str) -> list[dict[str, Any]]:
        """Return what happened to a customer, oldest first."""
        return self.control("events", customer=customer)["events"]

    @property
    def now(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self.control("clock")["now"], datetime.UTC)

    def metered(self, customer: str) -> int:
        """Return the sum of what was metered for a customer."""
        return self.control("metered", customer=customer)["sum"]

    def objects(self, kind: str) -> list[dict[str, Any]]:
        return self.control("objects").get(kind, [])

    def advance(self, *, seconds: int = 0, days: int = 0) -> int:
        return self.control("advance", seconds=seconds + 24 * 3600 * days)["now"]


def signed(event: dict[str, Any], *, at: float | None = None, secret: str = WEBHOOK_SECRET) -> tuple[bytes, str]:
    """Return an event's body and its `Stripe-Signature`."""
    body, moment = json.dumps(event), int(time.time() if at is None else at)
    signature = hmac.new(secret.encode(), f"{moment}.{body}".encode(), hashlib.sha256).hexdigest()
    return body.encode(), f"t={moment},v1={signature}"
