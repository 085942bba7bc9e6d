"""What a carrier has that rings us over HTTP and brings its sound over a WebSocket.

It knows no carrier: CARRIERS in this folder's __init__ does, a line for each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Protocol

from django.conf import settings
from django.http import HttpRequest, QueryDict
from django.urls import reverse

from voice.telephony.dialects import Dialect
from voice.telephony.models import CarrierAccount, TelephoneLeg

RING_SECONDS = 30
"""How long somebody whom an agent calls may let it ring."""
DIAL_SECONDS = 25
"""How long the person whom a caller is put through to may let it ring."""
MOST_DIGITS = 9
"""Of a call's seconds."""
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
    "cancel": TelephoneLeg.Status.CANCELLED,
    "timeout": TelephoneLeg.Status.FAILED,
    "failed": TelephoneLeg.Status.FAILED,
}
"""What carriers say of a call, in our words."""


class CarrierRefused(Exception):
    """A carrier did not do what was asked. The sentence may be shown. `permanent`: asking again is of no use."""

    def __init__(self, sentence: str, *, permanent: bool, is_unknown: bool = False) -> None:
        super().__init__(sentence)
        self.permanent = permanent
        self.is_unknown = is_unknown
        """The carrier has no such thing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Said:
    """What a carrier says of a call over HTTP, in our words. Numbers are E.164, SIP addresses, or empty: withheld."""

    call_ref: str
    to: str
    caller: str
    status: str | None
    seconds: int | None
    account_ref: str = ""
    """Empty where the carrier does not name it."""
    answered_by: str = ""
    person_ref: str = ""
    """Of the person whom the caller was put through to, as the next two."""
    person_status: str = TelephoneLeg.Status.FAILED
    person_seconds: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class CallState:
    """How a call stands at its carrier."""

    status: str | None
    """None while it goes on."""
    seconds: int
    price_dollars: Decimal | None
    """None where the carrier has not settled it, or bills in another currency."""


class CarrierApi(Protocol):
    """A carrier's REST API, as one tenant. Each raises CarrierRefused."""

    def check(self, account: CarrierAccount) -> None:
        """Find out whether the carrier knows the account by what was given; the account need not be saved."""

    def find_number(self, account: CarrierAccount, number: str) -> str | None:
        """Return the carrier's name for a number of the account; None where it has no such number."""

    def connect_number(self, account: CarrierAccount, ref: str) -> None:
        """Have the carrier ask us when the number is called."""

    def disconnect_number(self, account: CarrierAccount, ref: str) -> None:
        """Have it ask us no more."""

    def place_call(self, account: CarrierAccount, leg: TelephoneLeg) -> str:
        """Have it call a leg's other number, and return its name for the call. No tenant need be entered."""

    def fetch_call(self, account: CarrierAccount, ref: str) -> CallState:
        """Return how a call stands. Permanently refused: the carrier knows no such call."""


class Markup(Protocol):
    """The documents that tell a carrier what to do with a call."""

    def stream(self, url: str, parameters: Mapping[str, str], *, then: str, **attributes: str) -> str:
        """Open a stream to `url` with the parameters; when it is over, ask `then`."""

    def dial(self, target: str, *, caller_id: str, then: str) -> str:
        """Put the caller through to a number or SIP address; when that is over, ask `then`."""

    def say(self, sentence: str) -> str:
        """Say something, and hang up."""

    def hang_up(self) -> str: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Credential:
    """A field of an account, as its carrier's console names it."""

    field: str
    label: str
    pattern: str
    complaint: str
    is_secret: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class HostedCarrier:
    api: CarrierApi
    markup: Markup
    dialect: Dialect
    is_signed: Callable[[CarrierAccount, HttpRequest, str], bool]
    """Whether the account's carrier made a request to the address given."""
    read: Callable[[QueryDict], Said]
    credentials: tuple[Credential, ...]
    where: str
    """Where the carrier shows them: a sentence for who looks for them."""
    stream_attributes: Mapping[str, str] = dataclasses.field(default_factory=dict)


def webhook(carrier: str, name: str, **arguments: Any) -> str:
    """Return the public address of one of our webhooks."""
    return settings.TELEPHONY_WEBHOOK_URL + reverse(f"telephone:{name}", kwargs={"carrier": carrier, **arguments})


def read_seconds(value: str | None) -> int | None:
    return int(value) if value and value.isdecimal() and len(value) <= MOST_DIGITS else None
