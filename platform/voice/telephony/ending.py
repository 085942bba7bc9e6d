"""How a leg ended, as its carrier says: its status, its cost, and the bridge told where it does not know."""

from __future__ import annotations

import functools

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction
from django.utils import timezone

from tenants.scope import current_alias
from tenants.tasks import delay_on_commit
from voice.telephony.carriers import CARRIERS
from voice.telephony.costs import record_estimate
from voice.telephony.models import TelephoneLeg
from voice.telephony.prices import enter_price

LEGS_GROUP = "telephone.legs"
"""The channel layer's group in which telephony processes hear of legs."""


def finish_leg(leg: TelephoneLeg, *, status: str, seconds: int | None = None, problem: str = "") -> None:
    """Take in the end of a leg of the entered tenant, once: enter its cost, and end its call if that goes on."""
    if not leg.finish(status, seconds=seconds, problem=problem):
        return
    record_estimate(leg)
    if (leg.carrier_seconds or status == TelephoneLeg.Status.COMPLETED) and leg.carrier in CARRIERS:
        delay_on_commit(enter_price, tenant_id=str(leg.tenant_id), leg_id=str(leg.pk))
    transaction.on_commit(functools.partial(_tell_bridge, str(leg.pk)), using=current_alias())


def record_person(caller: TelephoneLeg, *, carrier_ref: str, status: str, seconds: int | None) -> None:
    """Take in the leg to the person whom a caller was put through to, once it is over."""
    person, is_new = TelephoneLeg.objects.get_or_create(
        carrier=caller.carrier,
        carrier_ref=carrier_ref or f"{caller.carrier_ref}-person",
        defaults={
            "call_id": caller.call_id,
            "role": TelephoneLeg.Role.PERSON,
            "direction": TelephoneLeg.Direction.OUTBOUND,
            "our_number": caller.our_number,
            "other_number": caller.transferred_to,
            "answered_at": timezone.now() if seconds else None,
        },
    )
    if is_new:
        finish_leg(person, status=status, seconds=seconds)


def _tell_bridge(leg_id: str) -> None:
    tell_telephony("leg.ended", leg=leg_id)


def tell_telephony(kind: str, **ids: str) -> None:
    """Tell all telephony processes of a leg."""
    async_to_sync(get_channel_layer().group_send)(LEGS_GROUP, {"type": kind, **ids})
