"""Offering our plans at Stripe: a product and prices for each, the meter of overage, and the portal's settings.

Safe to repeat: what is there is found again by its id, its lookup key or its mark. A price at Stripe never changes; a
plan's new price is a new one there, and those who subscribed before keep theirs.
"""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import TYPE_CHECKING

from billing.models import Plan
from billing.overage import METER_EVENT
from billing.stripe_api import client, id_of, speaking_to_stripe
from billing.subscribing import PORTAL_MARK

if TYPE_CHECKING:
    import stripe
    from stripe.params import PriceCreateParams, ProductCreateParams
    from stripe.params.billing_portal import ConfigurationCreateParamsFeatures

OVERAGE_PRODUCT = "warmline_overage"


@dataclasses.dataclass
class Offered:
    """What was done, in sentences, in order."""

    made: list[str] = dataclasses.field(default_factory=list)


def sync_plans() -> Offered:
    """Bring Stripe to what our plans say, and keep its ids in them. As the operator.

    Raises:
        StripeAway, StripeRefused, BillingOff
    """
    offered = Offered()
    with speaking_to_stripe():
        meter = _meter(offered)
        _product(OVERAGE_PRODUCT, "Minutes beyond the plan", offered, unit_label="second")
        for plan in Plan.objects.filter(monthly_price_cents__gt=0):
            _offer(plan, meter, offered)
        _portal(offered)
    return offered


def overage_unit(plan: Plan) -> Decimal:
    """Return the price of a second in hundredths of the currency, to the 12 decimals that Stripe keeps."""
    return (Decimal(plan.overage_cents_per_minute) / 60).quantize(Decimal("1e-12"))


def _meter(offered: Offered) -> stripe.billing.Meter:
    for found in client().v1.billing.meters.list({"status": "active", "limit": 100}).auto_paging_iter():
        if found.event_name == METER_EVENT:
            return found
    offered.made.append("made the meter of overage seconds")
    return client().v1.billing.meters.create(
        {
            "display_name": "Seconds beyond the plan",
            "event_name": METER_EVENT,
            "default_aggregation": {"formula": "sum"},
            "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
            "value_settings": {"event_payload_key": "value"},
        }
    )


def _offer(plan: Plan, meter: stripe.billing.Meter, offered: Offered) -> None:
    if plan.stripe_price_id and not plan.stripe_product_id:
        # Entered by the operator: the plan is what Stripe has already.
        plan.stripe_product_id = id_of(client().v1.prices.retrieve(plan.stripe_price_id).product)
    else:
        plan.stripe_product_id = plan.stripe_product_id or f"warmline_plan_{plan.slug}"
        _product(plan.stripe_product_id, plan.name, offered, slug=plan.slug)
    plan.stripe_price_id = _price(
        plan.stripe_price_id,
        {
            "product": plan.stripe_product_id,
            "currency": plan.currency,
            "unit_amount": plan.monthly_price_cents,
            "recurring": {"interval": "month", "usage_type": "licensed"},
            "nickname": f"{plan.name}, a month",
            "lookup_key": f"warmline_{plan.slug}",
        },
        offered,
    )
    if plan.has_overage:
        plan.stripe_overage_price_id = _price(
            plan.stripe_overage_price_id,
            {
                "product": OVERAGE_PRODUCT,
                "currency": plan.currency,
                "unit_amount_decimal": overage_unit(plan),
                "recurring": {"interval": "month", "usage_type": "metered", "meter": meter.id},
                "nickname": f"{plan.name}, each second beyond it",
                "lookup_key": f"warmline_{plan.slug}_overage",
            },
            offered,
        )
    plan.save(update_fields=["stripe_product_id", "stripe_price_id", "stripe_overage_price_id"])


def _product(product_id: str, name: str, offered: Offered, *, slug: str = "", unit_label: str = "") -> None:
    import stripe

    try:
        found = client().v1.products.retrieve(product_id)
    except stripe.InvalidRequestError as problem:
        if problem.http_status != 404:
            raise
        wanted: ProductCreateParams = {"id": product_id, "name": name, "metadata": {"plan": slug}}
        if unit_label:
            wanted["unit_label"] = unit_label
        client().v1.products.create(wanted)
        offered.made.append(f"made the product {name}")
        return
    if found.name != name and slug:
        client().v1.products.update(product_id, {"name": name})
        offered.made.append(f"renamed the product {found.name} to {name}")


def _price(price_id: str, wanted: PriceCreateParams, offered: Offered) -> str:
    """Return the id of a price of these terms: the one that the plan has, or the one of this key, or a new one."""
    known = [client().v1.prices.retrieve(price_id)] if price_id else []
    known += client().v1.prices.list({"lookup_keys": [wanted["lookup_key"]], "active": True, "limit": 1}).data
    terms = [name for name in ("currency", "unit_amount", "unit_amount_decimal") if name in wanted]
    for found in known:
        if all(getattr(found, name) == wanted.get(name) for name in terms):
            return found.id
    made = client().v1.prices.create({**wanted, "transfer_lookup_key": True})
    offered.made.append(f"made the price of {wanted['nickname']}")
    return made.id


def _portal(offered: Offered) -> None:
    """Keep the portal to what is not done on our own pages: cards, address, invoices, and cancelling."""
    features: ConfigurationCreateParamsFeatures = {
        "customer_update": {"enabled": True, "allowed_updates": ["address", "email", "name", "phone", "tax_id"]},
        "invoice_history": {"enabled": True},
        "payment_method_update": {"enabled": True},
        "subscription_cancel": {"enabled": True, "mode": "at_period_end"},
    }
    configurations = client().v1.billing_portal.configurations.list({"active": True, "limit": 100})
    if any(PORTAL_MARK in (each.metadata or {}) for each in configurations.auto_paging_iter()):
        return
    client().v1.billing_portal.configurations.create(
        {"name": "Warmline", "features": features, "metadata": {PORTAL_MARK: "1"}}
    )
    offered.made.append("made the settings of the customer portal")
