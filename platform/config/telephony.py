"""The telephony process: `python -m config.telephony --port 8003`. Carriers' streams, and SIP, come in.

Call audio shares no event loop with the gateway, which it reaches as any other caller does. Calls are
voice.telephony's; here are the process's start and stop, `/healthz` and `/metrics`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import hmac
import json
import os
import signal
from http import HTTPStatus

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

import structlog  # noqa: E402  (Django must be set up first)
from django.conf import settings  # noqa: E402
from prometheus_client import generate_latest  # noqa: E402
from websockets.asyncio.server import ServerConnection, serve  # noqa: E402
from websockets.http11 import Request, Response  # noqa: E402

from config.checks import refuse_insecure_start  # noqa: E402
from voice.telephony.serving import Limits, Telephony  # noqa: E402
from voice.telephony.sip.endpoint import SipEndpoint  # noqa: E402
from voice.telephony.sip.options import SipOptions  # noqa: E402

refuse_insecure_start()
log = structlog.get_logger(__name__)

MAX_MESSAGE_BYTES = 64 * 1024
OPEN_SECONDS = 5.0
CLOSE_SECONDS = 2.0


async def run(host: str, port: int) -> None:
    """Serve until told to stop, then let calls end."""
    telephony = Telephony(Limits.from_environment())
    sip_options = SipOptions.from_environment()
    sip = SipEndpoint(telephony, sip_options) if sip_options.host else None
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    def answer(connection: ServerConnection, request: Request) -> Response | None:
        return _answer(telephony, connection, request)

    async with serve(
        telephony.take_stream,
        host,
        port,
        process_request=answer,
        compression=None,
        max_size=MAX_MESSAGE_BYTES,
        open_timeout=OPEN_SECONDS,
        close_timeout=CLOSE_SECONDS,
        server_header=None,
    ):
        listening = asyncio.create_task(telephony.listen(), name="listen")
        if sip is not None:
            await sip.start()
        gc.freeze()
        log.info("telephony.started", port=port, max_calls=telephony.limits.max_calls)
        await stop.wait()
        await telephony.drain()
        if sip is not None:
            await sip.close()
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening


def _answer(telephony: Telephony, connection: ServerConnection, request: Request) -> Response | None:
    """Answer plain requests; None lets a stream begin."""
    path = request.path.partition("?")[0]
    if path == "/healthz":
        health = {"ok": not telephony.is_draining, "draining": telephony.is_draining, "calls": telephony.calls}
        return connection.respond(
            HTTPStatus.SERVICE_UNAVAILABLE if telephony.is_draining else HTTPStatus.OK, json.dumps(health)
        )
    if path == "/metrics":
        token, given = settings.METRICS_TOKEN, request.headers.get("Authorization", "")
        if token and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return connection.respond(HTTPStatus.UNAUTHORIZED, "Send the token of METRICS_TOKEN.\n")
        return connection.respond(HTTPStatus.OK, generate_latest().decode())
    if "Upgrade" not in request.headers:
        return connection.respond(HTTPStatus.NOT_FOUND, "This process answers carriers' streams.\n")
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the telephony process.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8003)
    arguments = parser.parse_args()
    asyncio.run(run(arguments.host, arguments.port))


if __name__ == "__main__":
    main()
