"""A stand-in for Plivo: `python -m tests.carriers.plivo --folder F`. It prints its port.

Source: Plivo's documentation of its XML, audio streaming, requests and their signatures of the third version, and the
resources Account, Application, Number and Call of its API.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import uuid
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests.carriers import network
from tests.carriers.calls import Call
from tests.carriers.stream import StreamPeer

ACCOUNT = "MA" + "A" * 18
TOKEN = "t" * 40
CREDENTIALS = {"account_ref": ACCOUNT, "token": TOKEN}
OTHERS_APPLICATION = "10000000000000001"
IN_PLIVOS_WORDS = {
    "CallStatus": "CallStatus",
    "CallDuration": "Duration",
    "DialCallStatus": "DialStatus",
    "DialCallSid": "DialBLegUUID",
}
"""It does not say how long the person was there whom a caller was put through to."""
ROOT = f"/v1/Account/{ACCOUNT}"


class PlivoStream(StreamPeer):
    def first_messages(self) -> list[dict[str, Any]]:
        assert not self.parameters, "Plivo knows no parameters"
        start = {
            "callId": self.call.sid,
            "streamId": self.id,
            "accountId": ACCOUNT,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000},
        }
        return [{"sequenceNumber": self.next_number(), "event": "start", "start": start, "extra_headers": "{}"}]

    def media(self, timestamp: str, payload: str) -> dict[str, Any]:
        media = {"track": "inbound", "timestamp": timestamp, "chunk": self.chunk, "payload": payload}
        return self._message("media", media=media, extra_headers="{}")

    def key(self, digit: str) -> dict[str, Any]:
        return self._message("dtmf", dtmf={"track": "inbound", "digit": digit, "timestamp": "1"}, extra_headers="{}")

    def played(self, mark: str) -> dict[str, Any]:
        return self._message("playedStream", name=mark)

    def cleared(self, marks: list[str]) -> list[dict[str, Any]]:
        return [self._message("clearedAudio")]

    def last_messages(self) -> list[dict[str, Any]]:
        return []  # it closes the connection

    def read(self, document: dict[str, Any]) -> tuple[str, str]:
        match document:
            case {"event": "playAudio", "media": {"contentType": "audio/x-mulaw", "sampleRate": 8000} as media}:
                return "play", media["payload"]
            case {"event": "checkpoint", "streamId": self.id, "name": name}:
                return "mark", name
            case {"event": "clearAudio", "streamId": self.id}:
                return "clear", ""
        return "unknown", str(document)

    def _message(self, event: str, **fields: Any) -> dict[str, Any]:
        return {"sequenceNumber": self.next_number(), "streamId": self.id, "event": event, **fields}


class Plivo(network.StandIn):
    peer = PlivoStream

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        # More than Plivo lists at once.
        self.applications: list[dict[str, Any]] = [
            {"app_id": str(int(OTHERS_APPLICATION) + index), "answer_url": "https://elsewhere.example/"}
            for index in range(25)
        ]
        self.numbers = {
            number.lstrip("+"): {"number": number.lstrip("+"), "app_id": OTHERS_APPLICATION}
            for number in network.NUMBERS
        }

    def webhooks_of(self, number: str) -> tuple[str, str]:
        application = self.numbers[number.lstrip("+")]["app_id"]
        (found,) = (each for each in self.applications if each["app_id"] == application)
        return found["answer_url"], found.get("hangup_url", "")

    def told_of(self, status: str) -> bool:
        return status not in ("initiated", "in-progress")

    def form(self, call: Call, **more: str) -> dict[str, str]:
        form = {
            "CallUUID": call.sid,
            "CallStatus": call.status,
            "Direction": call.direction.partition("-")[0],
            "Event": "StartApp",
            "From": call.from_number.lstrip("+"),
            "To": call.to_number.lstrip("+"),
        }
        if more.get("CallStatus") == "canceled":
            more["CallStatus"] = "cancel"
        if more.get("AnsweredBy", "").startswith("machine"):
            form["Machine"] = "true"
        return {**form, **{IN_PLIVOS_WORDS[name]: value for name, value in more.items() if name in IN_PLIVOS_WORDS}}

    def sign(self, url: str, form: dict[str, str]) -> dict[str, str]:
        return sign(url, form)

    def check_stream(self, stream: ET.Element) -> None:
        assert stream.attrib["bidirectional"] == stream.attrib["keepCallAlive"] == "true"
        assert stream.attrib["contentType"] == "audio/x-mulaw;rate=8000", "the default is linear"

    # --- its API ---------------------------------------------------------------------------------------------------
    def is_allowed(self, request: web.Request) -> bool:
        given = request.headers.get("Authorization", "")
        return given == aiohttp.BasicAuth(ACCOUNT, TOKEN).encode() and ACCOUNT in request.path

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(f"{ROOT}/", self.read_account),
            web.get(f"{ROOT}/Application/", self.list_applications),
            web.post(f"{ROOT}/Application/", self.create_application),
            web.get(f"{ROOT}/Number/", self.list_numbers),
            web.post(ROOT + "/Number/{number}/", self.update_number),
            web.post(f"{ROOT}/Call/", self.create_call),
            web.get(ROOT + "/Call/{sid}/", self.read_call),
        ]

    async def read_account(self, request: web.Request) -> web.Response:
        return web.json_response({"auth_id": ACCOUNT, "cash_credits": "10.00000"})

    async def list_applications(self, request: web.Request) -> web.Response:
        limit, offset = int(request.query["limit"]), int(request.query["offset"])
        assert limit <= 20, "Plivo lists 20 at once"
        more = f"{ROOT}/Application/?offset={offset + limit}" if offset + limit < len(self.applications) else None
        return web.json_response({"meta": {"next": more}, "objects": self.applications[offset : offset + limit]})

    async def create_application(self, request: web.Request) -> web.Response:
        given = await request.json()
        if given["app_name"] in {each.get("app_name") for each in self.applications}:
            return web.json_response({"error": "app_name already exists"}, status=400)
        self.applications.append({**given, "app_id": str(int(OTHERS_APPLICATION) + len(self.applications))})
        return web.json_response({"message": "created", "app_id": self.applications[-1]["app_id"]}, status=201)

    async def list_numbers(self, request: web.Request) -> web.Response:
        begin = request.query["number_startswith"]
        found = [
            {"number": each["number"], "application": f"{ROOT}/Application/{each['app_id']}/"}
            for each in self.numbers.values()
            if each["number"].startswith(begin)
        ]
        return web.json_response({"meta": {"next": None}, "objects": found})

    async def update_number(self, request: web.Request) -> web.Response:
        number = self.numbers[request.match_info["number"]]
        number["app_id"] = (await request.json()).get("app_id", OTHERS_APPLICATION)
        return web.json_response({"message": "changed"}, status=202)

    async def create_call(self, request: web.Request) -> web.Response:
        given = await request.json()
        if given["to"].endswith(network.IMPOSSIBLE):
            return web.json_response({"error": "Invalid 'to'"}, status=400)
        assert given["machine_detection"] == "true" and given["ring_url"] == given["hangup_url"]
        to, from_ = "+" + given["to"], "+" + given["from"]
        self.place(to=to, from_=from_, url=given["answer_url"], status_url=given["hangup_url"])
        # A request has a name of its own.
        return web.json_response({"message": "call fired", "request_uuid": str(uuid.uuid4())}, status=201)

    async def read_call(self, request: web.Request) -> web.Response:
        call = self.calls.get(request.match_info["sid"])
        is_live = request.query.get("status") == "live"
        if call is None or is_live is call.ended.is_set():
            return web.json_response({"error": "not found"}, status=404)
        if is_live:
            return web.json_response({"call_uuid": call.sid, "call_status": call.status})
        return web.json_response(
            {
                "call_uuid": call.sid,
                "answer_time": "2026-01-01 09:00:00+00:00" if call.status == "completed" else None,
                "bill_duration": call.duration,
                "total_amount": "0.00850",
            }
        )


def sign(url: str, form: dict[str, str], token: str = TOKEN) -> dict[str, str]:
    """Sign as Plivo does a POST to an address without a query."""
    nonce = uuid.uuid4().hex
    signed = url + "?" + "".join(name + form[name] for name in sorted(form)) + "." + nonce
    signature = base64.b64encode(hmac.new(token.encode(), signed.encode(), hashlib.sha256).digest()).decode()
    # With more than one token, there is a signature of each.
    return {"X-Plivo-Signature-V3": f"b2xk,{signature}", "X-Plivo-Signature-V3-Nonce": nonce}


STAND_IN = Plivo
if __name__ == "__main__":
    network.run(STAND_IN)
