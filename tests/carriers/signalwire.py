"""A stand-in for SignalWire: Twilio's requests, documents and messages, with names and a signature of its own.

Source: SignalWire's documentation of cXML, its streams' messages, webhook security, and its Compatibility API.
"""

from __future__ import annotations

import uuid
from typing import Any

from twilio.request_validator import RequestValidator

from tests.carriers import network
from tests.carriers.twilio import Twilio, TwilioStream

PROJECT = "11111111-2222-3333-4444-555555555555"
SIGNING_KEY = "PSK_" + "s" * 40
TOKEN = "PT" + "t" * 48
CREDENTIALS = {"space": "of-the-tests", "account_ref": PROJECT, "token": TOKEN, "signing_key": SIGNING_KEY}


class SignalWireStream(TwilioStream):
    account = PROJECT
    version = "0.2.0"

    def new_id(self) -> str:
        return str(uuid.uuid4())

    def message(self, event: str, **fields: Any) -> dict[str, Any]:
        message = super().message(event, **fields)
        if event not in ("dtmf", "mark"):  # the others have the stream's name in the start only
            del message["streamSid"]
        return message

    def last_messages(self) -> list[dict[str, Any]]:
        return [self.message("stop")]


class SignalWire(Twilio):
    peer = SignalWireStream
    account, token = PROJECT, TOKEN
    root = "/api/laml/2010-04-01"
    price = 0.0085

    def new_call_id(self) -> str:
        return str(uuid.uuid4())

    def sign(self, url: str, form: dict[str, str]) -> dict[str, str]:
        return sign(url, form)


def sign(url: str, form: dict[str, str], token: str = SIGNING_KEY) -> dict[str, str]:
    return {"X-SignalWire-Signature": RequestValidator(token).compute_signature(url, form)}


STAND_IN = SignalWire
if __name__ == "__main__":
    network.run(STAND_IN)
