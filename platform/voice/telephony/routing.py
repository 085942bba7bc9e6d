"""Which agent answers a number now, and leave for its call: what a carrier's ring becomes before the gateway knows."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from typing import Any
from zoneinfo import ZoneInfo

from django.core import signing
from django.db import connections

from agents.models import Agent
from billing.entitlements import entitlements_of
from tenants.models import Tenant
from tenants.ownership import entered_tenant_id
from tenants.scope import current_alias
from voice.lookups import TENANT_OF_TELEPHONE_NUMBER
from voice.models import Call
from voice.telephony.models import TelephoneLeg, TelephoneNumber
from voice.telephony.words import NOT_IN_SERVICE
from voice.tickets import AgentNotPublished, issue_ticket

_SALT = "voice.telephony.legs"
LEG_TOKEN_SECONDS = 6 * 3600


class CallDeclined(Exception):
    """Nobody answers. The sentence is for the caller."""


@dataclasses.dataclass(frozen=True, slots=True)
class Granted:
    """Leave for one leg to be bridged: what its process gets, and nobody else."""

    leg_token: str = dataclasses.field(repr=False)
    ticket: str = dataclasses.field(repr=False)


def find_tenant_of(number: str) -> uuid.UUID | None:
    """Return for whom this number is confirmed, before any tenant is entered."""
    with connections[current_alias()].cursor() as cursor:
        cursor.execute(f"SELECT {TENANT_OF_TELEPHONE_NUMBER.name}(%s)", [number])
        return cursor.fetchone()[0]


def choose_agent(number: TelephoneNumber, *, at: datetime.datetime) -> Agent:
    """Return the agent that answers a number of the entered tenant at a time.

    Raises:
        CallDeclined: the number is out of service, or it is outside its hours and a message is all there is.
    """
    if not (number.is_active and number.is_confirmed):
        raise CallDeclined(NOT_IN_SERVICE)
    tenant = Tenant.objects.get(pk=entered_tenant_id())
    local = at.astimezone(ZoneInfo(tenant.time_zone))
    hours = list(number.hours.all())
    is_open = not hours or any(
        each.weekday == local.weekday() and each.opens_at <= local.time() < each.closes_at for each in hours
    )
    if is_open:
        return number.agent
    if number.outside == TelephoneNumber.Outside.AGENT and number.outside_agent is not None:
        return number.outside_agent
    raise CallDeclined(closed_message(number, tenant))


def closed_message(number: TelephoneNumber, tenant: Tenant) -> str:
    """Return what callers are told outside a number's hours."""
    return number.outside_message or f"{tenant.name} is closed at the moment. Please call again later."


def grant(leg: TelephoneLeg, agent: Agent) -> Granted:
    """Return leave for a leg to talk to an agent of the entered tenant.

    Raises:
        CallDeclined: the account or the agent cannot take calls.
    """
    if entitlements_of().refusal is not None:
        raise CallDeclined(NOT_IN_SERVICE)
    try:
        ticket = issue_ticket(agent, channel=Call.Channel.TELEPHONE, puts_through=has_person_behind(leg.our_number))
    except AgentNotPublished:
        raise CallDeclined(NOT_IN_SERVICE) from None
    return Granted(leg_token=issue_leg_token(leg), ticket=ticket)


def has_person_behind(number: str) -> bool:
    """Return whether somebody takes over callers of a number whom an agent hands off."""
    return TelephoneNumber.objects.filter(number=number).exclude(forwards_to="").exists()


def issue_leg_token(leg: TelephoneLeg) -> str:
    return signing.dumps([leg.tenant_id.hex, leg.pk.hex], salt=_SALT)


def read_leg_token(token: Any) -> tuple[uuid.UUID, uuid.UUID] | None:
    """Return (tenant id, leg id), or None where the token is not ours or is too old."""
    try:
        tenant_id, leg_id = signing.loads(str(token), salt=_SALT, max_age=LEG_TOKEN_SECONDS)
        return uuid.UUID(tenant_id), uuid.UUID(leg_id)
    except (signing.BadSignature, ValueError, TypeError):
        return None
