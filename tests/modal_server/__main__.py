"""See the package. Prints `{"url", "control"}`: where the SDK finds it, and where tests ask for more."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import socket
from pathlib import Path

import aiohttp
from aiohttp import web
from grpclib.server import Server as GrpcServer
from modal._utils.grpc_utils import custom_detail_codec

from tests.modal_server import state as states
from tests.modal_server.api import Calls, make_service
from tests.modal_server.containers import Fleet
from tests.modal_server.control import make_control
from tests.modal_server.proxy import make_proxy


async def serve(
    folder: Path, credentials: dict[str, str], workspace_names: dict[str, str], images: frozenset[str]
) -> None:
    stopped = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    async with contextlib.AsyncExitStack() as held:
        http = await held.enter_async_context(aiohttp.ClientSession(trust_env=False))
        listening: set[asyncio.Task[None]] = set()

        async def run(application: web.Application, listener: socket.socket) -> None:
            runner = web.AppRunner(application, shutdown_timeout=1)
            await runner.setup()
            held.push_async_callback(runner.cleanup)
            await web.SockSite(runner, listener).start()

        def listen(server: states.Server, listener: socket.socket) -> None:
            task = asyncio.create_task(run(make_proxy(server, fleet, http, state.injections), listener))
            listening.add(task)
            task.add_done_callback(listening.discard)

        state = states.State(credentials, workspace_names, folder, images=images)
        fleet = Fleet(state, folder, listen=listen)
        held.callback(fleet.close)
        grpc = GrpcServer([make_service(state, Calls(state, fleet))], status_details_codec=custom_detail_codec)
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        await grpc.start(sock=listener)
        held.callback(grpc.close)
        fleet.server_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        control = socket.socket()
        control.bind(("127.0.0.1", 0))
        await run(make_control(state, fleet), control)
        keeping = asyncio.create_task(fleet.keep())
        print(
            json.dumps({"url": fleet.server_url, "control": f"http://127.0.0.1:{control.getsockname()[1]}"}), flush=True
        )
        await asyncio.wait([keeping, asyncio.create_task(stopped.wait())], return_when=asyncio.FIRST_COMPLETED)
        keeping.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.modal_server", description=__doc__)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--credentials", action="append", default=[], metavar="ID:SECRET:WORKSPACE", help="a token")
    parser.add_argument("--image", action="append", default=[], metavar="NAME:TAG", help="published in every workspace")
    arguments = parser.parse_args()
    tokens = [token.split(":") for token in arguments.credentials or ["ak-test:as-test:test"]]
    credentials = {token_id: secret for token_id, secret, _ in tokens}
    names = {token_id: name for token_id, _, name in tokens}
    asyncio.run(serve(arguments.state, credentials, names, frozenset(arguments.image)))


if __name__ == "__main__":
    main()
