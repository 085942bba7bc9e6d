"""Twilio's REST API through its own SDK, its signatures and its stream. SignalWire's are the same, elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from requests import RequestException
from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.http.response import Response
from twilio.request_validator import RequestValidator
from twilio.rest import Client

from voice.telephony.carriers.contract import RING_SECONDS, STATUSES, CallState, Credential, webhook
from voice.telephony.carriers.rest import TIMEOUT_SECONDS, refused, unreachable
from voice.telephony.models import Carrier, CarrierAccount, TelephoneLeg

SDK_URL = "https://api.twilio.com"
CREDENTIALS = (
    Credential(
        "account_ref",
        "Account SID",
        r"AC[0-9A-Za-z]{32}",
        "An account SID is AC and 32 letters and digits: Twilio's console shows it.",
    ),
    Credential(
        "token", "Auth token", r"[0-9A-Za-z]{16,64}", "A token is one word of letters and digits.", is_secret=True
    ),
)
SIGNALWIRE_CREDENTIALS = (
    Credential(
        "space",
        "Space",
        r"[0-9a-z](?:[0-9a-z-]{0,61}[0-9a-z])?",
        "A space is the first word of its address: acme, of acme.signalwire.com.",
    ),
    Credential(
        "account_ref",
        "Project ID",
        r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
        "A project ID is 32 letters and digits in five groups.",
    ),
    Credential(
        "token", "API token", r"[0-9A-Za-z]{16,80}", "A token is one word of letters and digits.", is_secret=True
    ),
    Credential(
        "signing_key",
        "Signing key",
        r"[0-9A-Za-z_]{16,80}",
        "A signing key is one word of letters, digits and underscores.",
        is_secret=True,
    ),
)


class _AtItsAddress(TwilioHttpClient):
    """Twilio's own client, at another address."""

    def __init__(self, url: str) -> None:
        super().__init__(timeout=TIMEOUT_SECONDS, max_retries=1)
        self._url = url

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Response:  # type: ignore[override]
        return super().request(method, url.replace(SDK_URL, self._url, 1), *args, **kwargs)


def is_signed(account: CarrierAccount, request: HttpRequest, url: str) -> bool:
    signature = request.headers.get("X-Twilio-Signature", "")
    return RequestValidator(str(account.token)).validate(url, request.POST, signature)


def is_signed_by_signalwire(account: CarrierAccount, request: HttpRequest, url: str) -> bool:
    if not account.signing_key:  # the text of none is a key that anybody can guess
        return False
    signature = request.headers.get("X-SignalWire-Signature", "")
    return RequestValidator(str(account.signing_key)).validate(url, request.POST, signature)


def check(account: CarrierAccount) -> None:
    with _asking(account) as client:
        client.api.v2010.accounts(account.account_ref).fetch()


def find_number(account: CarrierAccount, number: str) -> str | None:
    with _asking(account) as client:
        found = client.incoming_phone_numbers.list(phone_number=number, limit=50)  # a pattern, to Twilio
    return next((str(each.sid) for each in found if each.phone_number == number), None)


def connect_number(account: CarrierAccount, ref: str) -> None:
    with _asking(account) as client:
        client.incoming_phone_numbers(ref).update(
            voice_url=webhook(account.carrier, "voice"),
            voice_method="POST",
            status_callback=webhook(account.carrier, "status"),
            status_callback_method="POST",
        )


def disconnect_number(account: CarrierAccount, ref: str) -> None:
    with _asking(account) as client:
        client.incoming_phone_numbers(ref).update(voice_url="", status_callback="")


def place_call(account: CarrierAccount, leg: TelephoneLeg) -> str:
    with _asking(account) as client:
        call = client.calls.create(
            to=leg.other_number,
            from_=leg.our_number,
            url=webhook(account.carrier, "answered", leg_id=leg.pk),
            method="POST",
            status_callback=webhook(account.carrier, "placed_status", leg_id=leg.pk),
            status_callback_method="POST",
            status_callback_event=["initiated", "ringing", "answered", "completed"],
            machine_detection="Enable",
            timeout=RING_SECONDS,
        )
    return str(call.sid)


def fetch_call(account: CarrierAccount, ref: str) -> CallState:
    with _asking(account) as client:
        call = client.calls(ref).fetch()
    status = STATUSES.get(str(call.status))
    in_dollars = call.price is not None and (call.price_unit or "USD").upper() == "USD"
    return CallState(
        status=status if status in TelephoneLeg.FINISHED else None,
        seconds=int(call.duration or 0),
        price_dollars=abs(Decimal(str(call.price))) if in_dollars else None,
    )


def _address_of(account: CarrierAccount) -> str:
    if account.carrier == Carrier.SIGNALWIRE:
        return settings.SIGNALWIRE_URL.format(space=account.space) + "/api/laml"
    return settings.TWILIO_URL


@contextmanager
def _asking(account: CarrierAccount) -> Iterator[Client]:
    name = account.get_carrier_display()
    try:
        yield Client(account.account_ref, str(account.token), http_client=_AtItsAddress(_address_of(account)))
    except TwilioRestException as problem:
        raise refused(name, problem.status, str(problem.msg)) from problem
    except (TwilioException, RequestException, OSError) as problem:
        raise unreachable(name) from problem
