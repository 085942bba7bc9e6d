"""A stand-in for Twilio: `python -m tests.carriers.twilio --folder F`. It prints its port.

Source: Twilio's documentation of Media Streams, TwiML, webhook signatures, and its REST API of 2010-04-01, which its
own SDK talks to.
"""

from __future__ import annotations

import uuid
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from twilio.request_validator import RequestValidator

from tests.carriers import network
from tests.carriers.calls import Call
from tests.carriers.stream import StreamPeer

ACCOUNT = "AC" + "a" * 32
TOKEN = "t" * 32
CREDENTIALS = {"account_ref": ACCOUNT, "token": TOKEN}
NUMBERS = dict(zip(("PN" + "1" * 32, "PN" + "2" * 32), network.NUMBERS, strict=True))


class TwilioStream(StreamPeer):
    account = ACCOUNT
    version = "1.0.0"

    def new_id(self) -> str:
        return "MZ" + uuid.uuid4().hex

    def first_messages(self) -> list[dict[str, Any]]:
        start = {
            "streamSid": self.id,
            "accountSid": self.account,
            "callSid": self.call.sid,
            "tracks": ["inbound"],
            "customParameters": self.parameters,
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        }
        return [{"event": "connected", "protocol": "Call", "version": self.version}, self.message("start", start=start)]

    def media(self, timestamp: str, payload: str) -> dict[str, Any]:
        media = {"track": "inbound", "chunk": str(self.chunk), "timestamp": timestamp, "payload": payload}
        return self.message("media", media=media)

    def key(self, digit: str) -> dict[str, Any]:
        return self.message("dtmf", dtmf={"track": "inbound_track", "digit": digit})

    def played(self, mark: str) -> dict[str, Any]:
        return self.message("mark", mark={"name": mark})

    def last_messages(self) -> list[dict[str, Any]]:
        return [self.message("stop", stop={"accountSid": self.account, "callSid": self.call.sid})]

    def read(self, document: dict[str, Any]) -> tuple[str, str]:
        assert document["streamSid"] == self.id, document
        return super().read(document)

    def message(self, event: str, **fields: Any) -> dict[str, Any]:
        return {"event": event, "sequenceNumber": str(self.next_number()), "streamSid": self.id, **fields}


class Twilio(network.StandIn):
    peer = TwilioStream
    account, token = ACCOUNT, TOKEN
    root = "/2010-04-01"
    price: str | float = "-0.00850"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.numbers = {
            ref: {"sid": ref, "phone_number": number, "friendly_name": number, "voice_url": "", "status_callback": ""}
            for ref, number in NUMBERS.items()
        }

    def new_call_id(self) -> str:
        return "CA" + uuid.uuid4().hex

    def webhooks_of(self, number: str) -> tuple[str, str]:
        (found,) = (each for each in self.numbers.values() if each["phone_number"] == number)
        return found["voice_url"], found["status_callback"]

    def form(self, call: Call, **more: str) -> dict[str, str]:
        return {
            "AccountSid": self.account,
            "ApiVersion": "2010-04-01",
            "CallSid": call.sid,
            "CallStatus": call.status,
            "Direction": call.direction,
            "From": call.from_number,
            "To": call.to_number,
            **more,
        }

    def sign(self, url: str, form: dict[str, str]) -> dict[str, str]:
        return sign(url, form)

    def check_stream(self, stream: ET.Element) -> None:
        assert "?" not in stream.attrib["url"], "Twilio opens no streams to addresses with a query"

    # --- the REST API ----------------------------------------------------------------------------------------------
    def is_allowed(self, request: web.Request) -> bool:
        given = request.headers.get("Authorization", "")
        return given == aiohttp.BasicAuth(self.account, self.token).encode() and self.account in request.path

    def routes(self) -> list[web.RouteDef]:
        root = f"{self.root}/Accounts/{self.account}"
        return [
            web.get(f"{root}.json", self.read_account),
            web.get(f"{root}/IncomingPhoneNumbers.json", self.list_numbers),
            web.post(root + "/IncomingPhoneNumbers/{ref}.json", self.update_number),
            web.post(f"{root}/Calls.json", self.create_call),
            web.get(root + "/Calls/{sid}.json", self.read_call),
        ]

    async def read_account(self, request: web.Request) -> web.Response:
        return web.json_response({"sid": self.account, "friendly_name": "Of the tests", "status": "active"})

    async def list_numbers(self, request: web.Request) -> web.Response:
        pattern = request.query.get("PhoneNumber", "")
        found = [each for each in self.numbers.values() if pattern in each["phone_number"]]
        return web.json_response({"incoming_phone_numbers": found, "next_page_uri": None, "page": 0, "page_size": 50})

    async def update_number(self, request: web.Request) -> web.Response:
        number = self.numbers.get(request.match_info["ref"])
        if number is None:
            return web.json_response({"code": 20404, "message": "not found", "status": 404}, status=404)
        given = await request.post()
        for theirs, name in (("VoiceUrl", "voice_url"), ("StatusCallback", "status_callback")):
            if theirs in given:
                number[name] = str(given[theirs])
        return web.json_response(number)

    async def create_call(self, request: web.Request) -> web.Response:
        given = {name: str(value) for name, value in (await request.post()).items()}
        if given["To"].endswith(network.IMPOSSIBLE):
            return web.json_response({"code": 21211, "message": "Invalid 'To'", "status": 400}, status=400)
        assert given["MachineDetection"] == "Enable" and given["Method"] == given["StatusCallbackMethod"] == "POST"
        call = self.place(to=given["To"], from_=given["From"], url=given["Url"], status_url=given["StatusCallback"])
        return web.json_response(self.resource(call), status=201)

    async def read_call(self, request: web.Request) -> web.Response:
        call = self.calls.get(request.match_info["sid"])
        if call is None:
            return web.json_response({"code": 20404, "message": "not found", "status": 404}, status=404)
        return web.json_response(self.resource(call))

    def resource(self, call: Call) -> dict[str, Any]:
        return {
            "sid": call.sid,
            "from": call.from_number,
            "to": call.to_number,
            "status": call.status,
            "direction": call.direction,
            "price": self.price if call.is_settled else None,
            "price_unit": "USD",
            "duration": str(call.duration),
        }


def sign(url: str, form: dict[str, str], token: str = TOKEN) -> dict[str, str]:
    return {"X-Twilio-Signature": RequestValidator(token).compute_signature(url, form)}


STAND_IN = Twilio
if __name__ == "__main__":
    network.run(STAND_IN)
