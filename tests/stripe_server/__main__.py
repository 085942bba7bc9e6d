"""See the package. Prints `{"url"}`, where the SDK, browsers and tests find it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal

import aiohttp
from aiohttp import web

from tests.stripe_server.api import DELIVERIES, FAILURES, KEY, add_api
from tests.stripe_server.checkout import STATE, add_pages
from tests.stripe_server.control import add_control
from tests.stripe_server.deliveries import Deliveries
from tests.stripe_server.state import Fault, State


@web.middleware
async def faults(request: web.Request, handler: web.Handler) -> web.StreamResponse:
    """Answer with an error of Stripe's form, and deliver what a page has made happen."""
    try:
        return await handler(request)
    except Fault as fault:
        return web.json_response(fault.document, status=fault.status)
    finally:
        request.app[DELIVERIES].send_waiting()


async def serve(key: str, webhook_secret: str) -> None:
    stopped = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    async with contextlib.AsyncExitStack() as held:
        http = await held.enter_async_context(aiohttp.ClientSession(trust_env=False))
        application, state = web.Application(middlewares=[faults]), State()
        application[STATE], application[KEY], application[FAILURES] = state, key, []
        application[DELIVERIES] = Deliveries(state, webhook_secret, http)
        add_api(application, webhook_secret)
        add_pages(application)
        add_control(application)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await runner.setup()
        held.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        state.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        print(json.dumps({"url": state.url}), flush=True)
        await stopped.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.stripe_server", description=__doc__)
    parser.add_argument("--key", required=True)
    parser.add_argument("--webhook-secret", required=True)
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.key, arguments.webhook_secret))


if __name__ == "__main__":
    main()
