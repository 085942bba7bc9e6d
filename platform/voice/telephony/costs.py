"""What a carrier's minutes cost: an estimate when a leg ends, and the carrier's own price when it tells one.

The ledger only grows: what the price differs from the estimate by is a further entry.
"""

from __future__ import annotations

from decimal import Decimal

from django.conf import settings

from provisioning.models import CostEntry
from voice.telephony.models import Carrier, TelephoneLeg

NANO_DOLLARS = 1_000_000_000
_INBOUND, _OUTBOUND = TelephoneLeg.Direction.INBOUND, TelephoneLeg.Direction.OUTBOUND
# US list prices of a local number, a minute, with 0.4 cents for the media stream of a leg that talks to an agent.
# Of carriers without a line here the price that they tell is all; what a SIP trunk takes is a setting.
NANO_DOLLARS_PER_MINUTE = {
    (Carrier.TWILIO, _INBOUND): 12_500_000,
    (Carrier.TWILIO, _OUTBOUND): 18_000_000,
}


def estimate_cost(leg: TelephoneLeg) -> int:
    """Return nano-dollars for the minutes that a carrier bills: begun ones count whole. 0 where it has no rate."""
    return -(-(leg.carrier_seconds or 0) // 60) * _rate(Carrier(leg.carrier), TelephoneLeg.Direction(leg.direction))


def cost_of(leg: TelephoneLeg) -> int:
    """Return what the ledger has for a leg, in nano-dollars."""
    return CostEntry.objects.filter(idempotency_key__in=[_key(leg, "estimate"), _key(leg, "price")]).total()


def _rate(carrier: Carrier, direction: TelephoneLeg.Direction) -> int:
    if carrier is Carrier.SIP:
        inbound, outbound = settings.SIP_NANO_DOLLARS_PER_MINUTE, settings.SIP_OUTBOUND_NANO_DOLLARS_PER_MINUTE
        return int(inbound if direction is _INBOUND else outbound)
    return NANO_DOLLARS_PER_MINUTE.get((carrier, direction), 0)


def _key(leg: TelephoneLeg, what: str) -> str:
    return f"leg:{leg.pk}:{what}"


def record_estimate(leg: TelephoneLeg) -> None:
    """Enter a finished leg's estimate, once."""
    _record(leg, estimate_cost(leg), source=CostEntry.Source.ESTIMATE, key=_key(leg, "estimate"))


def record_price(leg: TelephoneLeg, price_dollars: Decimal) -> None:
    """Enter what the carrier's price, as it bills it, differs from the estimate by; once."""
    difference = round(price_dollars * NANO_DOLLARS) - estimate_cost(leg)
    _record(leg, difference, source=CostEntry.Source.PROVIDER, key=_key(leg, "price"))


def _record(leg: TelephoneLeg, nano_dollars: int, *, source: CostEntry.Source, key: str) -> None:
    if not nano_dollars or leg.ended_at is None:
        return
    CostEntry.objects.get_or_create(
        idempotency_key=key,
        defaults={
            "tenant_id": leg.tenant_id,
            "call_id": leg.call_id,
            "part": CostEntry.Part.TELEPHONY,
            "nano_dollars": nano_dollars,
            "milliseconds": (leg.carrier_seconds or 0) * 1000,
            "container": f"{leg.get_carrier_display()}, {leg.get_role_display()}",
            "source": source,
            "occurred_at": leg.ended_at,
        },
    )
