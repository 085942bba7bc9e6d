"""A tenant's carrier accounts and its numbers: saved, checked with the carrier, confirmed, changed, given up."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings as installation
from django.db import IntegrityError
from django.utils import timezone

from agents.models import Agent
from agents.tasks import mail_owners
from billing.entitlements import entitlements_of
from tenants import audit
from tenants.models import Tenant, User
from tenants.ownership import entered_tenant_id
from tenants.scope import atomic, enter_tenant
from tenants.tasks import delay_on_commit
from voice.telephony import outbound
from voice.telephony.carriers import CARRIERS, account_of
from voice.telephony.carriers.contract import CarrierRefused
from voice.telephony.clips import make_clips
from voice.telephony.models import Carrier, CarrierAccount, NumberHours, TelephoneNumber

LONGEST_TARGET = 120
Stretch = tuple[datetime.time, datetime.time]


class BadAccount(ValueError):
    """The account cannot be saved. The sentence may be shown; `field` is what it is about."""

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(sentence)
        self.field = field


class BadTarget(ValueError):
    """Nobody can be put through to this. The sentence may be shown."""


class NumberTaken(Exception):
    """The number is confirmed for another tenant, or this one has it already. The sentence may be shown."""


class NoRoomForNumber(Exception):
    """The plan's telephone numbers are all in use. The sentence may be shown."""


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


def save_account(*, carrier: str, actor: User, **values: str) -> tuple[CarrierAccount, bool]:
    """Save an account in place of one before it; return it, and whether its carrier could be asked about it.

    Args:
        values: of the fields that `credentials` of the carrier name.

    Raises:
        BadAccount: it is none, or the carrier does not know it.
    """
    hosted, name = CARRIERS[carrier], Carrier(carrier).label
    values = {each.field: values[each.field].strip() for each in hosted.credentials}
    for each in hosted.credentials:
        if not re.fullmatch(each.pattern, values[each.field]):
            raise BadAccount(each.field, each.complaint)
    is_known = True
    try:
        hosted.api.check(CarrierAccount(carrier=carrier, **values))
    except CarrierRefused as problem:
        if problem.permanent:
            raise BadAccount("token", f"{name} does not know this account with this token: copy them again.") from None
        is_known = False
    account, _ = CarrierAccount.objects.update_or_create(
        carrier=carrier,
        defaults={
            "account_ref": "",
            **values,
            "last_four": values["token"][-4:],
            "saved_by": actor.email,
            "saved_at": timezone.now(),
        },
    )
    audit.record(
        action="carrier.saved",
        target=account.account_ref or name,
        actor=actor,
        details={"carrier": carrier, "checked": is_known},
    )
    return account, is_known


def remove_account(*, account: CarrierAccount, actor: User) -> None:
    """Forget an account. Its numbers stay, and answer nothing until there is an account again."""
    audit.record(
        action="carrier.removed",
        target=account.account_ref or account.get_carrier_display(),
        actor=actor,
        details={"carrier": account.carrier},
    )
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
    """Take a number into service at its carrier, which then asks us about its calls; or ask for one of a SIP trunk.

    Whose number a trunk brings no carrier tells: it waits for the operator, where the installation asks for that.

    Args:
        settings: label, outside, outside_agent, outside_message, forwards_to.

    Raises:
        BadTarget, NoRoomForNumber, NumberTaken, NotYourNumber
        CarrierRefused: the carrier did not do it.
    """
    settings = _checked(settings)
    with atomic():
        # One at a time in a tenant: two that count together would both find room for one more.
        Tenant.objects.select_for_update(no_key=True).get(pk=entered_tenant_id())
        _check_room()
        if TelephoneNumber.objects.filter(number=number).exists():
            raise NumberTaken(f"{number} is one of your numbers already.")
        is_hosted = carrier in CARRIERS
        carrier_ref = _connect(number, carrier) if is_hosted else ""
        waits = not is_hosted and installation.SIP_NUMBERS_NEED_CONFIRMATION
        try:
            with atomic():
                added = TelephoneNumber.objects.create(
                    number=number,
                    standing=TelephoneNumber.Standing.WAITING if waits else TelephoneNumber.Standing.CONFIRMED,
                    carrier=carrier,
                    carrier_ref=carrier_ref,
                    agent=agent,
                    **settings,
                )
        except IntegrityError:
            raise NumberTaken(f"{number} is in service already.") from None
        _set_hours(added, hours)
        _have_words_made(added)
        audit.record(
            action="number.added",
            target=number,
            actor=actor,
            details={"agent": agent.slug, "carrier": carrier, "standing": added.standing},
        )
    return added


def confirm_number(*, number: TelephoneNumber, actor: User | None) -> None:
    """Let a number's calls come to its tenant, as the operator; nothing happens where they do.

    Raises:
        NumberTaken: it is confirmed for another tenant.
    """
    try:
        _decide(number, TelephoneNumber.Standing.CONFIRMED, action="number.confirmed", actor=actor)
    except IntegrityError:
        other = TelephoneNumber.objects.select_related("tenant").filter(
            number=number.number, standing=TelephoneNumber.Standing.CONFIRMED
        )
        whose = ", ".join(each.tenant.name for each in other) or "another business"
        raise NumberTaken(f"{number} is confirmed for {whose}: refuse it there first.") from None


def refuse_number(*, number: TelephoneNumber, actor: User | None) -> None:
    """Let no call of a number come to its tenant, as the operator, whether it was confirmed before or not."""
    _decide(number, TelephoneNumber.Standing.REFUSED, action="number.refused", actor=actor)


def _decide(number: TelephoneNumber, standing: TelephoneNumber.Standing, *, action: str, actor: User | None) -> None:
    with enter_tenant(number.tenant_id):
        if TelephoneNumber.objects.filter(pk=number.pk).exclude(standing=standing).update(standing=standing):
            audit.record(action=action, target=number.number, actor=actor, details={"carrier": number.carrier})
            subject, body = _DECIDED[standing]
            page = f"{installation.PUBLIC_URL}/t/{number.tenant.slug}/telephone/numbers/{number.pk}/"
            delay_on_commit(
                mail_owners,
                tenant_id=str(number.tenant_id),
                subject=subject.format(number=number),
                body=f"{body.format(number=number)}\n\n{page}\n",
            )


_DECIDED = {
    TelephoneNumber.Standing.CONFIRMED: (
        "{number} takes calls now",
        "The operator of this installation has confirmed that {number} is yours: its calls are answered.",
    ),
    TelephoneNumber.Standing.REFUSED: (
        "{number} takes no calls",
        "The operator of this installation has not confirmed that {number} is yours: its calls are not answered.",
    ),
}
"""Subject and text of the mail to a number's owners."""


def _check_room() -> None:
    entitled = entitlements_of()
    if TelephoneNumber.objects.counted().count() >= entitled.numbers:
        allowed = f"{entitled.numbers} telephone number{'s' if entitled.numbers != 1 else ''}"
        raise NoRoomForNumber(
            f"The {entitled.plan} plan has {allowed}: take one out of service, or choose a larger plan."
        )


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
    """Give a number up. Its carrier is told not to ask us any more, if it can be reached."""
    account = account_of(number.carrier)
    if account is not None and number.carrier_ref:
        try:
            CARRIERS[number.carrier].api.disconnect_number(account, number.carrier_ref)
        except CarrierRefused:
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


def _connect(number: str, carrier: str) -> str:
    """Have a carrier ask us about a number's calls, and return its name for the number."""
    account, api, name = account_of(carrier), CARRIERS[carrier].api, Carrier(carrier).label
    if account is None:
        raise NotYourNumber(f"Save the {name} account first: the number is looked up there.")
    ref = api.find_number(account, number)
    if ref is None:
        raise NotYourNumber(f"{number} is not one of the {name} account's numbers: buy it in {name}'s console first.")
    api.connect_number(account, ref)
    return ref


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
