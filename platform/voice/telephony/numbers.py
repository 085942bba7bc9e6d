"""A tenant's carrier account and its numbers: saved, checked with the carrier, changed, given up."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import IntegrityError
from django.utils import timezone

from agents.models import Agent
from tenants import audit
from tenants.models import User
from tenants.scope import atomic
from tenants.tasks import delay_on_commit
from voice.telephony import outbound
from voice.telephony.clips import make_clips
from voice.telephony.models import Carrier, CarrierAccount, NumberHours, TelephoneNumber
from voice.telephony.twilio import rest

LONGEST_TARGET = 120
Stretch = tuple[datetime.time, datetime.time]


class BadAccount(ValueError):
    """The account cannot be saved. The sentence may be shown."""


class BadTarget(ValueError):
    """Nobody can be put through to this. The sentence may be shown."""


class NumberTaken(Exception):
    """The number belongs to another account of this installation. The sentence may be shown."""


class NotYourNumber(Exception):
    """The carrier's account does not own the number. The sentence may be shown."""


SIP_ADDRESS = re.compile(
    r"sips?:[A-Za-z0-9+*#_.!~'&=$,()-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*(?::[1-9][0-9]{0,4})?"
    r"(?:;[a-z]+=[A-Za-z0-9.-]+)*"
)


def read_target(text: str) -> str:
    """Return whom callers are put through to: a telephone number as E.164, or a SIP address as it is.

    Raises:
        BadTarget
    """
    text = text.strip()
    if not text.lower().startswith(("sip:", "sips:")):
        try:
            return outbound.read_number(text) if text else ""
        except ValueError:
            raise BadTarget(
                f"{text[:40]} is neither a telephone number like +14155550199 nor an address like sip:name@example.com."
            ) from None
    scheme, _, rest = text.partition(":")
    address = f"{scheme.lower()}:{rest}"
    if len(address) > LONGEST_TARGET or not SIP_ADDRESS.fullmatch(address):
        raise BadTarget("A SIP address is like sip:name@example.com or sip:name@192.0.2.1:5060, and nothing besides.")
    return address


def save_account(*, account_ref: str, token: str, actor: User) -> tuple[CarrierAccount, bool]:
    """Save a Twilio account in place of one before it; return it, and whether Twilio could be asked about it.

    Raises:
        BadAccount: it is none, or Twilio does not know it.
    """
    account_ref, token = account_ref.strip(), token.strip()
    if not account_ref.startswith("AC") or not account_ref.isalnum() or len(account_ref) != 34:
        raise BadAccount("An account SID is AC and 32 letters and digits: Twilio's console shows it.")
    if not token.isalnum() or not 16 <= len(token) <= 64:
        raise BadAccount("A token is one word of letters and digits.")
    is_known = rest.knows_account(account_ref, token)
    if is_known is False:
        raise BadAccount("Twilio does not know this account with this token: copy both again.")
    account, _ = CarrierAccount.objects.update_or_create(
        carrier=Carrier.TWILIO,
        defaults={
            "account_ref": account_ref,
            "token": token,
            "last_four": token[-4:],
            "saved_by": actor.email,
            "saved_at": timezone.now(),
        },
    )
    audit.record(action="carrier.saved", target=account_ref, actor=actor, details={"checked": is_known is True})
    return account, is_known is True


def remove_account(*, account: CarrierAccount, actor: User) -> None:
    """Forget an account. Its numbers stay, and answer nothing until there is an account again."""
    audit.record(action="carrier.removed", target=account.account_ref, actor=actor)
    account.delete()


def add_number(
    *,
    number: str,
    carrier: str,
    agent: Agent,
    settings: Mapping[str, Any],
    hours: Mapping[int, Sequence[Stretch]],
    actor: User,
) -> TelephoneNumber:
    """Take a number into service: at Twilio, which then asks us about its calls, or at a SIP trunk.

    Args:
        settings: label, outside, outside_agent, outside_message, forwards_to.

    Raises:
        BadTarget, NumberTaken, NotYourNumber
        rest.CarrierRefused: Twilio did not do it.
    """
    settings = _checked(settings)
    carrier_ref = _connect(number) if carrier == Carrier.TWILIO else ""
    try:
        with atomic():
            added = TelephoneNumber.objects.create(
                number=number, carrier=carrier, carrier_ref=carrier_ref, agent=agent, **settings
            )
    except IntegrityError:
        raise NumberTaken(f"{number} is in service already.") from None
    _set_hours(added, hours)
    _have_words_made(added)
    audit.record(action="number.added", target=number, actor=actor, details={"agent": agent.slug, "carrier": carrier})
    return added


def change_number(
    *,
    number: TelephoneNumber,
    agent: Agent,
    settings: Mapping[str, Any],
    hours: Mapping[int, Sequence[Stretch]],
    actor: User,
) -> None:
    """Change who answers, when, and what callers get.

    Raises:
        BadTarget
    """
    number.agent = agent
    for name, value in _checked(settings).items():
        setattr(number, name, value)
    number.save()
    _set_hours(number, hours)
    _have_words_made(number)
    audit.record(action="number.changed", target=number.number, actor=actor, details={"agent": agent.slug})


def remove_number(*, number: TelephoneNumber, actor: User) -> None:
    """Give a number up. Twilio is told not to ask us any more, if it can be reached."""
    account = CarrierAccount.objects.filter(carrier=number.carrier).first()
    if account is not None and number.carrier_ref:
        try:
            rest.disconnect_number(account, number.carrier_ref)
        except rest.CarrierRefused:
            pass  # it may be gone there too; without a row here, its calls are refused
    audit.record(action="number.removed", target=number.number, actor=actor)
    number.delete()


def hours_of(number: TelephoneNumber) -> dict[int, list[Stretch]]:
    found: dict[int, list[Stretch]] = {}
    for each in number.hours.all():
        found.setdefault(each.weekday, []).append((each.opens_at, each.closes_at))
    return found


def _checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {**settings, "forwards_to": read_target(settings.get("forwards_to", ""))}


def _connect(number: str) -> str:
    """Have Twilio ask us about a number's calls, and return Twilio's name for the number."""
    account = CarrierAccount.objects.filter(carrier=Carrier.TWILIO).first()
    if account is None:
        raise NotYourNumber("Save the Twilio account first: the number is looked up there.")
    owned = next((each for each in rest.find_numbers(account) if each.number == number), None)
    if owned is None:
        raise NotYourNumber(f"{number} is not one of the Twilio account's numbers: buy it in Twilio's console first.")
    rest.connect_number(account, owned.ref)
    return owned.ref


def _have_words_made(number: TelephoneNumber) -> None:
    if number.carrier == Carrier.SIP:
        delay_on_commit(make_clips, tenant_id=str(number.tenant_id))


def _set_hours(number: TelephoneNumber, hours: Mapping[int, Sequence[Stretch]]) -> None:
    number.hours.all().delete()
    NumberHours.objects.bulk_create(
        NumberHours(tenant_id=number.tenant_id, number=number, weekday=weekday, opens_at=opens_at, closes_at=closes_at)
        for weekday, stretches in hours.items()
        for opens_at, closes_at in stretches
    )
