"""Telnyx: numbers and calls over its API, signatures by its key, and its stream. Its markup is TwiML.

A number there belongs to an application, and that one has the webhooks: ours is made once.
"""

from __future__ import annotations

import base64
import binascii
import time
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.conf import settings
from django.http import HttpRequest

from voice.telephony.carriers.contract import (
    RING_SECONDS,
    STATUSES,
    CallState,
    CarrierRefused,
    Credential,
    webhook,
)
from voice.telephony.carriers.rest import ask
from voice.telephony.models import CarrierAccount, TelephoneLeg

SIGNED_WITHIN_SECONDS = 300
"""An older signature was heard by somebody else first."""
MOST_DIGITS = 12
"""Of the time of a signature."""
MOST_LISTED = 250
STREAM_ATTRIBUTES = {"codec": "PCMU", "bidirectionalMode": "rtp", "bidirectionalCodec": "PCMU"}
CREDENTIALS = (
    Credential(
        "token", "API key", r"KEY[0-9A-Za-z_-]{16,100}", "An API key begins with KEY and has no spaces.", is_secret=True
    ),
    Credential(
        "signing_key",
        "Public key",
        r"[0-9A-Za-z+/]{43}=",
        "A public key is 44 characters and ends with an equals sign.",
    ),
)


def is_signed(account: CarrierAccount, request: HttpRequest, url: str) -> bool:
    """Check the signature, which is one of the time and the body: the address is not in it."""
    at = request.headers.get("Telnyx-Timestamp", "")
    if not at.isdecimal() or len(at) > MOST_DIGITS or abs(time.time() - int(at)) > SIGNED_WITHIN_SECONDS:
        return False
    try:
        signature = base64.b64decode(request.headers.get("Telnyx-Signature-Ed25519", ""), validate=True)
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(str(account.signing_key)))
        key.verify(signature, f"{at}|".encode() + request.body)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def check(account: CarrierAccount) -> None:
    _ask(account, "GET", "/texml_applications", params={"page[size]": 1})


def find_number(account: CarrierAccount, number: str) -> str | None:
    # The filter takes digits alone.
    answer = _ask(account, "GET", "/phone_numbers", params={"filter[phone_number]": number.lstrip("+")})
    return next((str(each["id"]) for each in answer.get("data", []) if each.get("phone_number") == number), None)


def connect_number(account: CarrierAccount, ref: str) -> None:
    _ask(account, "PATCH", f"/phone_numbers/{quote(ref, safe='')}", json={"connection_id": _application(account)})


def disconnect_number(account: CarrierAccount, ref: str) -> None:
    """Do nothing: no request is documented that leaves a number without an application. Its calls get 403 from us."""


def place_call(account: CarrierAccount, leg: TelephoneLeg) -> str:
    call = _ask(
        account,
        "POST",
        f"/texml/calls/{_application(account)}",
        json={
            "To": leg.other_number,
            "From": leg.our_number,
            "Url": webhook(account.carrier, "answered", leg_id=leg.pk),
            "StatusCallback": webhook(account.carrier, "placed_status", leg_id=leg.pk),
            "StatusCallbackMethod": "POST",
            "StatusCallbackEvent": "initiated ringing answered completed",
            "MachineDetection": "Enable",
            "Timeout": RING_SECONDS,
        },
    )
    return str(call.get("call_sid") or "")


def fetch_call(account: CarrierAccount, ref: str) -> CallState:
    if not account.account_ref:
        raise CarrierRefused("Telnyx has not said the account's name yet: it does with each call.", permanent=False)
    call = _ask(account, "GET", f"/texml/Accounts/{quote(account.account_ref, safe='')}/Calls/{quote(ref, safe='')}")
    status = STATUSES.get(str(call.get("status")))
    price = call.get("price") if (call.get("price_unit") or "USD").upper() == "USD" else None
    return CallState(
        status=status if status in TelephoneLeg.FINISHED else None,
        seconds=int(call.get("duration") or 0),
        price_dollars=None if price is None else abs(Decimal(str(price))),
    )


def _application(account: CarrierAccount) -> str:
    """Return the application whose webhooks are ours; made where there is none."""
    here = webhook(account.carrier, "voice")
    found = _ask(account, "GET", "/texml_applications", params={"page[size]": MOST_LISTED}).get("data", [])
    for each in found:
        if each.get("voice_url") == here:
            return str(each["id"])
    made = _ask(
        account,
        "POST",
        "/texml_applications",
        json={
            "friendly_name": "Warmline",
            "voice_url": here,
            "voice_method": "post",
            "status_callback": webhook(account.carrier, "status"),
            "status_callback_method": "post",
        },
    )
    return str(made["data"]["id"])


def _ask(account: CarrierAccount, method: str, path: str, **options: Any) -> dict[str, Any]:
    headers = {"Authorization": "Bearer " + str(account.token)}
    return ask(account, method, settings.TELNYX_URL + path, headers=headers, **options)
