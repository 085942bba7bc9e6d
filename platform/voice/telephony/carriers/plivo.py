"""Plivo: numbers and calls over its API, signatures of the third version, its XML and its stream.

Numbers are digits without a plus there, and belong to an application, which has the webhooks: ours is made once.
"""

from __future__ import annotations

import base64
import hmac
import zlib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit, urlunsplit

from django.conf import settings
from django.http import HttpRequest, QueryDict

from voice.telephony.carriers.contract import (
    DIAL_SECONDS,
    RING_SECONDS,
    STATUSES,
    CallState,
    CarrierRefused,
    Credential,
    Said,
    read_seconds,
    webhook,
)
from voice.telephony.carriers.documents import document, verb
from voice.telephony.carriers.rest import ask
from voice.telephony.models import CarrierAccount, TelephoneLeg

LISTED_AT_ONCE, MOST_LISTED = 20, 500
CREDENTIALS = (
    Credential(
        "account_ref", "Auth ID", r"[MS]A[0-9A-Z]{18}", "An auth ID is MA or SA and 18 capital letters and digits."
    ),
    Credential(
        "token", "Auth token", r"[0-9A-Za-z]{16,64}", "A token is one word of letters and digits.", is_secret=True
    ),
)


# --- what Plivo says over HTTP ---------------------------------------------------------------------------------------
def is_signed(account: CarrierAccount, request: HttpRequest, url: str) -> bool:
    nonce = request.headers.get("X-Plivo-Signature-V3-Nonce", "")
    expected = signature(str(account.token), url, dict(request.POST.lists()), nonce)
    given = request.headers.get("X-Plivo-Signature-V3", "").split(",")
    return any(hmac.compare_digest(expected.encode(), each.strip().encode()) for each in given)


def signature(token: str, url: str, form: Mapping[str, list[Any]], nonce: str) -> str:
    """Return Plivo's signature of a POST: of the address, what was posted in the order of its names, and the nonce."""
    parts = urlsplit(url)
    query = parse_qs(parts.query, keep_blank_values=True)
    signed = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
    if query or form:
        signed += "?" + "&".join(f"{name}={value}" for name in sorted(query) for value in sorted(query[name]))
    if query and form:
        signed += "."
    signed += "".join(f"{name}{value}" for name in sorted(form) for value in sorted(form[name]))
    return base64.b64encode(hmac.digest(token.encode(), f"{signed}.{nonce}".encode(), "sha256")).decode()


def read(form: QueryDict) -> Said:
    status = STATUSES.get(form.get("CallStatus", ""))
    return Said(
        call_ref=form.get("CallUUID", ""),
        to=_with_plus(form.get("To", "")),
        caller=_with_plus(form.get("From", "")),
        status=status,
        seconds=read_seconds(form.get("BillDuration") or form.get("Duration")),
        answered_by="machine" if form.get("Machine", "").lower() == "true" else "",
        person_ref=form.get("DialBLegUUID", ""),
        person_status=STATUSES.get(form.get("DialStatus", ""), TelephoneLeg.Status.FAILED),
    )


def _with_plus(number: str) -> str:
    if number.startswith(("+", "sip:")):
        return number
    return f"+{number}" if number.isdecimal() else ""


# --- what Plivo is told to do ----------------------------------------------------------------------------------------
def stream(url: str, parameters: Mapping[str, str], *, then: str, **attributes: str) -> str:
    # Extra headers hold letters and digits alone, so the parameters are in the address.
    opened = verb(
        "Stream",
        text=f"{url}?{urlencode(parameters)}",
        bidirectional="true",
        keepCallAlive="true",
        contentType="audio/x-mulaw;rate=8000",
        **attributes,
    )
    return document(opened, verb("Redirect", text=then, method="POST"))


def dial(target: str, *, caller_id: str, then: str) -> str:
    noun = (
        verb("User", text=target) if target.startswith(("sip:", "sips:")) else verb("Number", text=target.lstrip("+"))
    )
    attributes = {"action": then, "method": "POST", "timeout": str(DIAL_SECONDS), "callerId": caller_id.lstrip("+")}
    return document(verb("Dial", noun, **attributes))


def say(sentence: str) -> str:
    return document(verb("Speak", text=sentence), verb("Hangup"))


def hang_up() -> str:
    return document(verb("Hangup"))


# --- its API ---------------------------------------------------------------------------------------------------------
def check(account: CarrierAccount) -> None:
    _ask(account, "GET", "/")


def find_number(account: CarrierAccount, number: str) -> str | None:
    digits = number.lstrip("+")
    found = _ask(account, "GET", "/Number/", params={"number_startswith": digits}).get("objects", [])
    return next((digits for each in found if str(each.get("number")).lstrip("+") == digits), None)


def connect_number(account: CarrierAccount, ref: str) -> None:
    _ask(account, "POST", f"/Number/{quote(ref, safe='')}/", json={"app_id": _application(account)})


def disconnect_number(account: CarrierAccount, ref: str) -> None:
    """Have the number led by the account's default application, as Plivo does with one for which none is named."""
    _ask(account, "POST", f"/Number/{quote(ref, safe='')}/", json={})


def place_call(account: CarrierAccount, leg: TelephoneLeg) -> str:
    status = webhook(account.carrier, "placed_status", leg_id=leg.pk)
    call = _ask(
        account,
        "POST",
        "/Call/",
        json={
            "to": leg.other_number.lstrip("+"),
            "from": leg.our_number.lstrip("+"),
            "answer_url": webhook(account.carrier, "answered", leg_id=leg.pk),
            "answer_method": "POST",
            "ring_url": status,
            "ring_method": "POST",
            "hangup_url": status,
            "hangup_method": "POST",
            "machine_detection": "true",
            "ring_timeout": RING_SECONDS,
        },
    )
    return str(call.get("request_uuid") or "")


def fetch_call(account: CarrierAccount, ref: str) -> CallState:
    path = f"/Call/{quote(ref, safe='')}/"
    try:
        _ask(account, "GET", path, params={"status": "live"})
        return CallState(status=None, seconds=0, price_dollars=None)
    except CarrierRefused as problem:
        if not problem.is_unknown:
            raise
    call = _ask(account, "GET", path)
    amount = call.get("total_amount")
    return CallState(
        status=TelephoneLeg.Status.COMPLETED if call.get("answer_time") else TelephoneLeg.Status.NO_ANSWER,
        seconds=int(call.get("bill_duration") or 0),
        price_dollars=None if amount is None else abs(Decimal(str(amount))),
    )


def _application(account: CarrierAccount) -> str:
    """Return the application whose webhooks are ours; made where there is none."""
    here = webhook(account.carrier, "voice")
    for offset in range(0, MOST_LISTED, LISTED_AT_ONCE):
        page = _ask(account, "GET", "/Application/", params={"limit": LISTED_AT_ONCE, "offset": offset})
        for each in page.get("objects", []):
            if each.get("answer_url") == here:
                return str(each["app_id"])
        if not page.get("meta", {}).get("next"):
            break
    made = _ask(
        account,
        "POST",
        "/Application/",
        json={
            "app_name": f"warmline-{zlib.crc32(here.encode()):08x}",  # one name for one address
            "answer_url": here,
            "answer_method": "POST",
            "hangup_url": webhook(account.carrier, "status"),
            "hangup_method": "POST",
        },
    )
    return str(made["app_id"])


def _ask(account: CarrierAccount, method: str, path: str, **options: Any) -> dict[str, Any]:
    url = f"{settings.PLIVO_URL}/Account/{quote(account.account_ref, safe='')}{path}"
    return ask(account, method, url, auth=(account.account_ref, str(account.token)), **options)
