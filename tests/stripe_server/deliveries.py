"""Webhooks: each event to each endpoint, signed, and again after a while where the answer was no."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from typing import Any

import aiohttp

from tests.stripe_server.state import State

PAUSES_SECONDS = (0.2, 0.4, 0.8, 1.6, 3.2)
"""Between one attempt and the next."""
TIMEOUT_SECONDS = 10


class Deliveries:
    """Delivers in the order of events, without waiting for one before the next is sent, as Stripe does."""

    def __init__(self, state: State, secret: str, http: aiohttp.ClientSession) -> None:
        self.state = state
        self.log: list[dict[str, Any]] = []
        self._secret = secret
        self._http = http
        self._running: set[asyncio.Task[None]] = set()

    @property
    def is_idle(self) -> bool:
        return not self._running and not self.state.to_deliver

    def send_waiting(self) -> None:
        """Begin to deliver what happened since the last time."""
        waiting, self.state.to_deliver = self.state.to_deliver, []
        for event in waiting:
            self.send(event)

    def send(self, event: dict[str, Any]) -> None:
        for endpoint in self.state.of_kind("webhook_endpoint"):
            if {"*", event["type"]} & set(endpoint["enabled_events"]):
                task = asyncio.create_task(self._deliver(event, endpoint["url"]))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    async def _deliver(self, event: dict[str, Any], url: str) -> None:
        body = json.dumps(event, indent=2)
        for pause_seconds in (*PAUSES_SECONDS, None):
            status = await self._post(body, url)
            self.log.append({"id": event["id"], "type": event["type"], "status": status})
            if status is not None and 200 <= status < 300:
                event["pending_webhooks"] = 0
                return
            if pause_seconds is not None:
                await asyncio.sleep(pause_seconds)

    async def _post(self, body: str, url: str) -> int | None:
        # The signature is of the real time, whatever the objects' clock says: who checks it has no other.
        at = int(time.time())
        signature = hmac.new(self._secret.encode(), f"{at}.{body}".encode(), hashlib.sha256).hexdigest()
        headers = {"Stripe-Signature": f"t={at},v1={signature}", "Content-Type": "application/json; charset=utf-8"}
        try:
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
            async with self._http.post(url, data=body.encode(), headers=headers, timeout=timeout) as answer:
                return answer.status
        except (aiohttp.ClientError, TimeoutError):
            return None
