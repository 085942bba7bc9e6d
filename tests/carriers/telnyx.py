"""A stand-in for Telnyx: `python -m tests.carriers.telnyx --folder F`. It prints its port.

Source: Telnyx' documentation of TeXML, its callbacks and their signatures, media streaming over WebSockets, and the
resources `texml_applications`, `phone_numbers` and `texml` of its API of version 2.
"""

from __future__ import annotations

import base64
import datetime
import time
import urllib.parse
import uuid
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.carriers import network
from tests.carriers.calls import Call
from tests.carriers.stream import StreamPeer

ACCOUNT = "f5586561-8ff0-4291-a51b-c7dfe4139ff9"
TOKEN = "KEY0123456789ABCDEF_" + "t" * 22
PRIVATE_KEY = Ed25519PrivateKey.from_private_bytes(b"t" * 32)
CREDENTIALS = {
    "token": TOKEN,
    "signing_key": base64.b64encode(PRIVATE_KEY.public_key().public_bytes_raw()).decode(),
}
OTHERS_APPLICATION = "1111111111111111111"


class TelnyxStream(StreamPeer):
    def first_messages(self) -> list[dict[str, Any]]:
        start = {
            "user_id": ACCOUNT,
            "call_control_id": self.call.sid,
            "call_session_id": str(uuid.uuid4()),
            "from": self.call.from_number,
            "to": self.call.to_number,
            "custom_parameters": self.parameters,
            "media_format": {"encoding": "PCMU", "sample_rate": 8000, "channels": 1},
        }
        return [{"event": "connected", "version": "1.0.0"}, self._message("start", start=start)]

    def media(self, timestamp: str, payload: str) -> dict[str, Any]:
        media = {"track": "inbound", "chunk": str(self.chunk), "timestamp": timestamp, "payload": payload}
        return self._message("media", media=media)

    def key(self, digit: str) -> dict[str, Any]:
        at = datetime.datetime.now(datetime.UTC).isoformat()
        return self._message("dtmf", occurred_at=at, dtmf={"digit": digit})

    def played(self, mark: str) -> dict[str, Any]:
        return self._message("mark", mark={"name": mark})

    def last_messages(self) -> list[dict[str, Any]]:
        return [self._message("stop", stop={"user_id": ACCOUNT, "call_control_id": self.call.sid})]

    def _message(self, event: str, **fields: Any) -> dict[str, Any]:
        return {"event": event, "sequence_number": str(self.next_number()), "stream_id": self.id, **fields}


class Telnyx(network.StandIn):
    peer = TelnyxStream

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.applications: list[dict[str, Any]] = [
            {"id": OTHERS_APPLICATION, "friendly_name": "Another", "voice_url": "https://elsewhere.example/"}
        ]
        self.numbers = {
            str(index): {"id": str(index), "phone_number": number, "connection_id": OTHERS_APPLICATION}
            for index, number in enumerate(network.NUMBERS, start=2_000_000_000)
        }

    def new_call_id(self) -> str:
        return "v3:" + base64.urlsafe_b64encode(uuid.uuid4().bytes * 2).decode().rstrip("=")

    def webhooks_of(self, number: str) -> tuple[str, str]:
        (found,) = (each for each in self.numbers.values() if each["phone_number"] == number)
        (application,) = (each for each in self.applications if each["id"] == found["connection_id"])
        return application["voice_url"], application.get("status_callback", "")

    def form(self, call: Call, **more: str) -> dict[str, str]:
        return {
            "AccountSid": ACCOUNT,
            "CallSid": call.sid,
            "CallSidLegacy": call.sid,
            "CallStatus": call.status,
            "ConnectionId": self.applications[-1]["id"],
            "From": call.from_number,
            "To": call.to_number,
            **more,
        }

    def sign(self, url: str, form: dict[str, str]) -> dict[str, str]:
        return sign(url, form)

    def check_stream(self, stream: ET.Element) -> None:
        assert stream.attrib["bidirectionalMode"] == "rtp", "the default plays MP3 files"
        assert stream.attrib["codec"] == stream.attrib["bidirectionalCodec"] == "PCMU"

    # --- its API ---------------------------------------------------------------------------------------------------
    def is_allowed(self, request: web.Request) -> bool:
        return request.headers.get("Authorization") == f"Bearer {TOKEN}"

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v2/texml_applications", self.list_applications),
            web.post("/v2/texml_applications", self.create_application),
            web.get("/v2/phone_numbers", self.list_numbers),
            web.patch("/v2/phone_numbers/{ref}", self.update_number),
            web.post("/v2/texml/calls/{application}", self.create_call),
            web.get("/v2/texml/Accounts/" + ACCOUNT + "/Calls/{sid}", self.read_call),
        ]

    async def list_applications(self, request: web.Request) -> web.Response:
        return web.json_response({"data": self.applications, "meta": {"total_pages": 1}})

    async def create_application(self, request: web.Request) -> web.Response:
        given = await request.json()
        assert given["voice_method"] == given["status_callback_method"] == "post"
        self.applications.append({**given, "id": str(1_293_384_261_075_731_499 + len(self.applications))})
        return web.json_response({"data": self.applications[-1]}, status=201)

    async def list_numbers(self, request: web.Request) -> web.Response:
        digits = request.query["filter[phone_number]"]
        assert digits.isdecimal(), "other characters find nothing"
        found = [each for each in self.numbers.values() if digits in each["phone_number"]]
        return web.json_response({"data": found, "meta": {"total_pages": 1}})

    async def update_number(self, request: web.Request) -> web.Response:
        number = self.numbers[request.match_info["ref"]]
        number.update(await request.json())
        return web.json_response({"data": number})

    async def create_call(self, request: web.Request) -> web.Response:
        given = await request.json()
        assert request.match_info["application"] in {each["id"] for each in self.applications}
        if given["To"].endswith(network.IMPOSSIBLE):
            return web.json_response({"errors": [{"code": "10016", "title": "Invalid 'To'"}]}, status=422)
        assert given["MachineDetection"] == "Enable" and given["StatusCallbackMethod"] == "POST"
        call = self.place(to=given["To"], from_=given["From"], url=given["Url"], status_url=given["StatusCallback"])
        return web.json_response({"call_sid": call.sid, "from": given["From"], "to": given["To"], "status": "queued"})

    async def read_call(self, request: web.Request) -> web.Response:
        call = self.calls.get(request.match_info["sid"])
        if call is None:
            return web.json_response({"errors": [{"code": "10005", "title": "Resource not found"}]}, status=404)
        price = {"price": "0.0085", "price_unit": "USD"} if call.is_settled else {}
        state = {"sid": call.sid, "account_sid": ACCOUNT, "status": call.status, "duration": str(call.duration)}
        return web.json_response({**state, **price})


def sign(url: str, form: dict[str, str], token: str = "", *, at: float | None = None) -> dict[str, str]:
    """Sign the body; the address is in no signature of Telnyx'. `token`: another key."""
    key = Ed25519PrivateKey.from_private_bytes(token.encode()) if token else PRIVATE_KEY
    timestamp = str(int(time.time() if at is None else at))
    signature = key.sign(f"{timestamp}|{urllib.parse.urlencode(form)}".encode())
    return {"Telnyx-Signature-Ed25519": base64.b64encode(signature).decode(), "Telnyx-Timestamp": timestamp}


STAND_IN = Telnyx
if __name__ == "__main__":
    network.run(STAND_IN)
