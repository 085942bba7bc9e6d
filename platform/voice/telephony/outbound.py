"""Calls that agents place: only for a tenant that has agreed to the rules, in hours in which one may call, and to
nobody who does not want it. What answers is the carrier's to find out.
"""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

import phonenumbers
from celery import shared_task
from django.conf import settings
from django.utils import timezone
from phonenumbers import timezone as number_zones

from agents.models import Agent
from billing.entitlements import entitlements_of
from tenants import audit
from tenants.models import Tenant, User
from tenants.ownership import entered_tenant_id
from tenants.scope import enter_tenant
from tenants.tasks import delay_on_commit
from voice.models import Call
from voice.telephony.carriers import CARRIERS, account_of
from voice.telephony.carriers.contract import CarrierRefused
from voice.telephony.ending import finish_leg, tell_telephony
from voice.telephony.models import Carrier, DoNotCall, NumberQuerySet, OutboundRules, TelephoneLeg, TelephoneNumber

MOST_WAITING = 50
"""Calls of one tenant that wait to be dialled or ring."""


class CallNotPlaced(Exception):
    """Nobody is called. The sentence may be shown; `code` is for programs."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


def read_number(text: str, *, country: str = "US") -> str:
    """Return a telephone number as E.164. Without a country of its own it is one of `country`.

    Raises:
        ValueError: with a sentence for who typed it.
    """
    try:
        # The library reads letters too, as on a keypad: `911 call`.
        number = phonenumbers.parse("" if any(map(str.isalpha, text)) else text, country)
    except phonenumbers.NumberParseException:
        raise ValueError("This is no telephone number: write it like +14155550123.") from None
    if phonenumbers.is_possible_number_with_reason(number) != phonenumbers.ValidationResult.IS_POSSIBLE:
        raise ValueError("This number is too short or too long: write it like +14155550123.")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def agree_to_rules(
    *, calls_from: datetime.time, calls_until: datetime.time, weekdays: list[int], actor: User
) -> OutboundRules:
    """Take down the tenant's word, and its hours. Saying it again changes the hours."""
    rules, is_new = OutboundRules.objects.update_or_create(
        defaults={"calls_from": calls_from, "calls_until": calls_until, "weekdays": sorted(weekdays)},
        create_defaults={
            "calls_from": calls_from,
            "calls_until": calls_until,
            "weekdays": sorted(weekdays),
            "agreed_by": actor.email,
        },
    )
    hours = f"{calls_from:%H:%M} to {calls_until:%H:%M}"
    audit.record(action="outbound.agreed" if is_new else "outbound.hours", target=hours, actor=actor)
    return rules


def withdraw_from_rules(*, actor: User) -> None:
    """Let no agent call anybody from now on."""
    OutboundRules.objects.all().delete()
    audit.record(action="outbound.withdrawn", actor=actor)


def do_not_call(*, number: str, reason: str = "", actor: User | None = None) -> DoNotCall:
    """Never call a number.

    Raises:
        ValueError: it is none.
    """
    entry, is_new = DoNotCall.objects.get_or_create(
        number=read_number(number),
        defaults={"reason": reason[:200], "added_by": actor.email if actor else ""},
    )
    if is_new:
        audit.record(action="do_not_call.added", target=entry.number, actor=actor)
    return entry


def allow_again(*, entry: DoNotCall, actor: User) -> None:
    audit.record(action="do_not_call.removed", target=entry.number, actor=actor)
    entry.delete()


def place_call(*, agent: Agent, to: str, number: TelephoneNumber, placed_by: User | None) -> TelephoneLeg:
    """Have an agent call somebody; the carrier is asked once this transaction stands.

    Raises:
        CallNotPlaced: the rules, the hour, the list, the plan or the set-up do not allow it.
    """
    try:
        to = read_number(to)
    except ValueError as problem:
        raise CallNotPlaced("number", str(problem)) from None
    rules = OutboundRules.objects.first()
    if rules is None:
        raise CallNotPlaced("rules", "An administrator has to agree to the rules of calling out first.")
    if phonenumbers.number_type(phonenumbers.parse(to)) == phonenumbers.PhoneNumberType.PREMIUM_RATE:
        raise CallNotPlaced("premium", f"{to} charges whoever calls it: agents do not call such numbers.")
    if DoNotCall.objects.filter(number=to).exists():
        raise CallNotPlaced("do_not_call", f"{to} is on the list of those who are not to be called.")
    if (refusal := quiet_hours(rules, to, at=timezone.now())) is not None:
        raise CallNotPlaced("quiet_hours", refusal)
    if (refusal := entitlements_of().refusal) is not None:
        raise CallNotPlaced("plan", refusal)
    if agent.archived_at is not None or agent.live_version_id is None:
        raise CallNotPlaced("not_published", f"{agent.name} has no published version: publish one first.")
    if number.carrier == Carrier.SIP and not settings.SIP_TRUNK:
        raise CallNotPlaced(
            "carrier", "This installation places no calls over SIP: choose a number at another carrier."
        )
    if number.carrier != Carrier.SIP and account_of(number.carrier) is None:
        name = number.get_carrier_display()
        raise CallNotPlaced("carrier", f"{number} is at {name}, and there is no {name} account: save one first.")
    if TelephoneLeg.objects.unfinished().filter(direction="outbound", call=None).count() >= MOST_WAITING:
        raise CallNotPlaced("too_many", f"{MOST_WAITING} calls wait to be answered: try again when they are over.")
    leg = TelephoneLeg.objects.create(
        agent=agent,
        direction=TelephoneLeg.Direction.OUTBOUND,
        status=TelephoneLeg.Status.WAITING,
        carrier=number.carrier,
        our_number=number.number,
        other_number=to,
        placed_by=placed_by,
    )
    audit.record(action="call.placed", target=to, actor=placed_by, details={"agent": agent.slug, "from": number.number})
    delay_on_commit(dial, tenant_id=str(leg.tenant_id), leg_id=str(leg.pk))
    return leg


def numbers_to_call_from() -> NumberQuerySet:
    """Return the entered tenant's numbers at carriers that place calls."""
    carriers = [*CARRIERS, Carrier.SIP] if settings.SIP_TRUNK else [*CARRIERS]
    return TelephoneNumber.objects.in_service().filter(carrier__in=carriers)


def quiet_hours(rules: OutboundRules, number: str, *, at: datetime.datetime) -> str | None:
    """Return why a number may not be called at a time; None where it may.

    A number may lie in several time zones: it is called when it is no quiet hour in any of them, nor in the tenant's.
    """
    tenant = Tenant.objects.get(pk=entered_tenant_id())
    for name in zones_of(number) or [tenant.time_zone]:
        local = at.astimezone(ZoneInfo(name))
        if not rules.calls_from <= local.time() < rules.calls_until or (
            rules.weekdays and local.weekday() not in rules.weekdays
        ):
            return f"It is {local:%A, %H:%M} in {name.replace('_', ' ')}: a quiet hour there."
    return None


def zones_of(number: str) -> list[str]:
    """Return the time zones in which a number may be; none where that is not known."""
    found = number_zones.time_zones_for_number(phonenumbers.parse(number))
    return [name for name in found if name != number_zones.UNKNOWN_TIMEZONE]


@shared_task(name="voice.telephony.dial")
def dial(*, tenant_id: str, leg_id: str) -> None:
    """Have the carrier place a call that waits to be dialled: once at most, whatever becomes of this process."""
    with enter_tenant(tenant_id):
        leg = TelephoneLeg.objects.filter(pk=leg_id).first()
        if leg is not None and leg.carrier == Carrier.SIP:
            tell_telephony("leg.dial", tenant=tenant_id, leg=leg_id)  # whoever has room claims it
            return
        account = account_of(leg.carrier) if leg else None
        if account is not None:
            account.unlock()
        claimed = TelephoneLeg.objects.filter(pk=leg_id, status=TelephoneLeg.Status.WAITING).update(
            status=TelephoneLeg.Status.RINGING, rang_at=timezone.now()
        )
    if leg is None or not claimed:
        return
    ref, problem = "", "There is no carrier's account any more."
    if account is not None:
        try:
            ref = CARRIERS[leg.carrier].api.place_call(account, leg)
            problem = ""
        except CarrierRefused as refusal:
            problem = str(refusal)
    with enter_tenant(tenant_id):
        leg = TelephoneLeg.objects.select_for_update().get(pk=leg_id)
        if problem:
            finish_leg(leg, status=TelephoneLeg.Status.FAILED, problem=problem)
        elif not leg.carrier_ref:  # whoever answers at once is told first
            leg.carrier_ref = ref
            leg.save(update_fields=["carrier_ref"])


def placed_calls() -> list[TelephoneLeg]:
    """Return the latest calls that agents of the entered tenant placed, newest first."""
    legs = TelephoneLeg.objects.callers().filter(direction=TelephoneLeg.Direction.OUTBOUND)
    return list(legs.select_related("agent", "call").order_by("-rang_at")[:50])


def leg_document(leg: TelephoneLeg) -> dict[str, object]:
    """Return a placed call as programs get it. JSON values only."""
    call: Call | None = leg.call
    return {
        "id": str(leg.pk),
        "status": leg.status,
        "to": leg.other_number,
        "from": leg.our_number,
        "agent": leg.agent.slug if leg.agent else None,
        "answered_by": leg.answered_by,
        "problem": leg.problem,
        "call_id": str(call.pk) if call else None,
    }
