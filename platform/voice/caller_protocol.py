"""The server's side of a caller's WebSocket, for uvicorn (`--ws voice.caller_protocol:CallerProtocol`) as ASGI.

Besides plain ASGI its scope has the extension `warmline.frames`: the connection itself, for who wants to splice it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast
from urllib.parse import unquote

from uvicorn.config import Config
from uvicorn.protocols.utils import get_local_addr, get_remote_addr
from uvicorn.server import ServerState
from websockets.http11 import Request
from websockets.server import ServerProtocol

from voice.frames import AUDIO, WHOLE_BINARY, Frames, SideClosed, pass_audio

EXTENSION = "warmline.frames"
RESTARTING = 1012

logger = logging.getLogger(__name__)


class CallerProtocol(Frames):
    """One request for a WebSocket: the handshake, and the ASGI application run on it."""

    masks = False
    __slots__ = ("_app_state", "_application", "_handshake", "_request", "_root_path", "_server_state", "_was_told")

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(max_message_bytes=config.ws_max_size)
        self._application = config.loaded_app
        self._server_state = server_state
        self._app_state = app_state
        self._root_path = config.root_path
        self._handshake = ServerProtocol(max_size=None, logger=logger)
        self._request: Request | None = None
        self._was_told = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._server_state.connections.add(self)  # type: ignore[arg-type]

    def connection_lost(self, problem: Exception | None) -> None:
        super().connection_lost(problem)
        self._server_state.connections.discard(self)  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        write, passage = self._write_on, self._passage
        if write is not None and passage is not None and data[0] == WHOLE_BINARY:
            # One message of audio, whole, masked and alone: so nearly every read brings it.
            size = len(data)
            if 6 < size < 132 and data[1] == size + 122 and data[6] ^ data[2] == AUDIO:
                self._heard_at = pass_audio(data, 6, passage, write)
                self._pings = 0
                return
            if size > 133 and data[1] == 0xFE and data[2] << 8 | data[3] == size - 8 and data[8] ^ data[4] == AUDIO:
                self._heard_at = pass_audio(data, 8, passage, write)
                self._pings = 0
                return
        if self._is_open:
            self.frames_received(data)
        elif self._request is None:
            self._begin(data)
        else:
            self.transport.close()  # frames before the answer to the handshake

    def shutdown(self) -> None:
        """End it at once: the server stops."""
        self.say_goodbye(RESTARTING)
        self.transport.close()

    def _begin(self, head: bytes) -> None:
        """Read the request, whose whole head the server gives at once, and start the application."""
        self._handshake.receive_data(head)
        request = next((event for event in self._handshake.events_received() if isinstance(event, Request)), None)
        if request is None:  # an address over the library's limit, for instance; it has written the answer
            self.transport.write(b"".join(self._handshake.data_to_send()))
            self.transport.close()
            return
        self._request = request
        task = asyncio.get_running_loop().create_task(self._run(self._scope(request)))
        task.add_done_callback(self._server_state.tasks.discard)
        self._server_state.tasks.add(task)

    async def _run(self, scope: dict[str, Any]) -> None:
        try:
            await self._application(scope, self._give, self._take_event)
        except SideClosed:
            pass
        except Exception:
            logger.exception("the application failed")
        if not self._is_open:
            self._refuse()
        elif self.is_open:
            self.say_goodbye(1011 if self.close_code is None else self.close_code)

    def _scope(self, request: Request) -> dict[str, Any]:
        path, _, query = request.path.partition("?")
        return {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if self.transport.get_extra_info("sslcontext") else "ws",
            "server": get_local_addr(self.transport),
            "client": get_remote_addr(self.transport),
            "root_path": self._root_path,
            "path": self._root_path + unquote(path),
            "raw_path": (self._root_path + path).encode("ascii"),
            "query_string": query.encode("ascii"),
            "headers": [
                (name.lower().encode("ascii"), value.encode("ascii", errors="surrogateescape"))
                for name, value in request.headers.raw_items()
            ],
            "subprotocols": [],
            "state": self._app_state.copy(),
            "extensions": {EXTENSION: {"connection": self}},
        }

    # --- ASGI ------------------------------------------------------------------------------------------------------
    async def _give(self) -> dict[str, Any]:
        if not self._was_told:
            self._was_told = True
            return {"type": "websocket.connect"}
        message = await self.receive()
        if message is None:
            return {"type": "websocket.disconnect", "code": self.close_code or 1006}
        return {"type": "websocket.receive", "text" if isinstance(message, str) else "bytes": message}

    async def _take_event(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "websocket.accept":
                self._accept()
            case "websocket.send":
                await self.send(event["bytes"])
            case "websocket.close" if self._is_open:
                self.say_goodbye(event.get("code", 1000), event.get("reason") or "")
            case "websocket.close":
                self._refuse()

    def _accept(self) -> None:
        if self._request is None or self.close_code is not None:
            raise SideClosed
        response = self._handshake.accept(self._request)
        self._handshake.send_response(response)
        self.transport.write(b"".join(self._handshake.data_to_send()))
        if response.status_code != 101:
            self.transport.close()
            raise SideClosed
        del self._handshake  # which a long call need not hold
        self._request = None
        self.opened()

    def _refuse(self) -> None:
        if not self.transport.is_closing():
            self._handshake.send_response(self._handshake.reject(403, ""))
            self.transport.write(b"".join(self._handshake.data_to_send()))
            self.transport.close()
