"""What a carrier's minutes cost: an estimate when a leg ends, and the carrier's own price when it tells one.

The ledger only grows: what the price differs from the estimate by is a further entry.
"""

from __future__ import annotations

from decimal import Decimal

from provisioning.models import CostEntry
from voice.telephony.models import Carrier, TelephoneLeg

NANO_DOLLARS = 1_000_000_000
_INBOUND, _OUTBOUND = TelephoneLeg.Direction.INBOUND, TelephoneLeg.Direction.OUTBOUND
# US list prices of a local number, a minute, with 0.4 cents for the media stream of a leg that talks to an agent.
# Of carriers without a line here the price that they tell is all.
NANO_DOLLARS_PER_MINUTE = {
    (Carrier.TWILIO, _INBOUND): 12_500_000,
    (Carrier.TWILIO, _OUTBOUND): 18_000_000,
}


def estimate_cost(leg: TelephoneLeg) -> int:
    """Return nano-dollars for the minutes that a carrier bills: begun ones count whole. 0 where it has no rate."""
    rate = NANO_DOLLARS_PER_MINUTE.get((Carrier(leg.carrier), TelephoneLeg.Direction(leg.direction)), 0)
    return -(-(leg.carrier_seconds or 0) // 60) * rate


def record_estimate(leg: TelephoneLeg) -> None:
    """Enter a finished leg's estimate, once."""
    _record(leg, estimate_cost(leg), source=CostEntry.Source.ESTIMATE, key=f"leg:{leg.pk}:estimate")


def record_price(leg: TelephoneLeg, price_dollars: Decimal) -> None:
    """Enter what the carrier's price, as it bills it, differs from the estimate by; once."""
    difference = round(price_dollars * NANO_DOLLARS) - estimate_cost(leg)
    _record(leg, difference, source=CostEntry.Source.PROVIDER, key=f"leg:{leg.pk}:price")


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
