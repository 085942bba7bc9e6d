"""Twilio's REST API through its own SDK, as one tenant: the account, its numbers, and its calls."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.urls import reverse
from requests import RequestException
from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.http.response import Response
from twilio.rest import Client

from voice.telephony.models import CarrierAccount, TelephoneLeg

TWILIO_URL = "https://api.twilio.com"
TIMEOUT_SECONDS = 10.0
RING_SECONDS = 30
"""How long somebody whom an agent calls may let it ring."""


STATUSES = {
    "queued": TelephoneLeg.Status.WAITING,
    "initiated": TelephoneLeg.Status.RINGING,
    "ringing": TelephoneLeg.Status.RINGING,
    "in-progress": TelephoneLeg.Status.ANSWERED,
    "completed": TelephoneLeg.Status.COMPLETED,
    "answered": TelephoneLeg.Status.COMPLETED,  # of a person who was dialled: the call is over when this is told
    "busy": TelephoneLeg.Status.BUSY,
    "no-answer": TelephoneLeg.Status.NO_ANSWER,
    "canceled": TelephoneLeg.Status.CANCELLED,
    "failed": TelephoneLeg.Status.FAILED,
}
"""What Twilio says of a call, in our words."""


class CarrierRefused(Exception):
    """Twilio did not do what was asked. The sentence may be shown. `permanent`: asking again is of no use."""

    def __init__(self, sentence: str, *, permanent: bool) -> None:
        super().__init__(sentence)
        self.permanent = permanent


@dataclasses.dataclass(frozen=True, slots=True)
class OwnedNumber:
    """A number that belongs to an account. `ref`: Twilio's name for it."""

    number: str
    ref: str
    name: str
    answers_here: bool


class _AtOurAddress(TwilioHttpClient):
    """Twilio's own client, at the address of the setting TWILIO_URL."""

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Response:  # type: ignore[override]
        return super().request(method, url.replace(TWILIO_URL, settings.TWILIO_URL, 1), *args, **kwargs)


def client_of(account: CarrierAccount) -> Client:
    return _client(account.account_ref, str(account.token))


def knows_account(account_ref: str, token: str) -> bool | None:
    """Return whether Twilio accepts the account's token; None where it could not be asked."""
    try:
        with _explained():
            _client(account_ref, token).api.v2010.accounts(account_ref).fetch()
    except CarrierRefused as problem:
        return False if problem.permanent else None
    return True


def find_numbers(account: CarrierAccount) -> list[OwnedNumber]:
    """Return the numbers that belong to an account.

    Raises:
        CarrierRefused
    """
    with _explained():
        return [
            OwnedNumber(each.phone_number, each.sid, each.friendly_name, each.voice_url == webhook("voice"))
            for each in client_of(account).incoming_phone_numbers.list(limit=200)
        ]


def connect_number(account: CarrierAccount, ref: str) -> None:
    """Have Twilio ask us when the number is called.

    Raises:
        CarrierRefused
    """
    with _explained():
        client_of(account).incoming_phone_numbers(ref).update(
            voice_url=webhook("voice"),
            voice_method="POST",
            status_callback=webhook("status"),
            status_callback_method="POST",
        )


def disconnect_number(account: CarrierAccount, ref: str) -> None:
    """Have Twilio ask us no more.

    Raises:
        CarrierRefused
    """
    with _explained():
        client_of(account).incoming_phone_numbers(ref).update(voice_url="", status_callback="")


def place_call(client: Client, leg: TelephoneLeg) -> str:
    """Have Twilio call a leg's other number, and return Twilio's name for the call. No tenant need be entered.

    Raises:
        CarrierRefused
    """
    with _explained():
        call = client.calls.create(
            to=leg.other_number,
            from_=leg.our_number,
            url=webhook("answered", leg_id=leg.pk),
            method="POST",
            status_callback=webhook("status"),
            status_callback_method="POST",
            status_callback_event=["initiated", "ringing", "answered", "completed"],
            machine_detection="Enable",
            timeout=RING_SECONDS,
        )
    return str(call.sid)


def fetch_price(account: CarrierAccount, ref: str) -> Decimal | None:
    """Return what a call cost, in US dollars; None where Twilio has not settled it, or bills in another currency.

    Raises:
        CarrierRefused
    """
    with _explained():
        call = client_of(account).calls(ref).fetch()
    if call.price is None or (call.price_unit or "USD").upper() != "USD":
        return None
    return abs(Decimal(str(call.price)))


def fetch_end(account: CarrierAccount, ref: str) -> tuple[str | None, int | None]:
    """Return how a call ended and the seconds that are billed; None for both while it goes on.

    Raises:
        CarrierRefused: permanently, where Twilio knows no such call.
    """
    with _explained():
        call = client_of(account).calls(ref).fetch()
    status = STATUSES.get(str(call.status))
    if status not in TelephoneLeg.FINISHED:
        return None, None
    return status, int(call.duration or 0)


def webhook(name: str, **arguments: Any) -> str:
    """Return the public address of one of our webhooks."""
    return settings.TELEPHONY_WEBHOOK_URL + reverse(f"telephone:twilio_{name}", kwargs=arguments)


def _client(account_ref: str, token: str) -> Client:
    return Client(account_ref, token, http_client=_AtOurAddress(timeout=TIMEOUT_SECONDS, max_retries=1))


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except TwilioRestException as problem:
        permanent = 400 <= problem.status < 500 and problem.status != 429
        if problem.status in (401, 403):
            raise CarrierRefused("Twilio does not accept this account and token.", permanent=True) from problem
        raise CarrierRefused(f"Twilio refused: {str(problem.msg)[:200]}", permanent=permanent) from problem
    except (TwilioException, RequestException, OSError) as problem:
        raise CarrierRefused("Twilio cannot be reached: try again in a minute.", permanent=False) from problem
