"""What is sold and to whom: products, prices, meters and their events, customers, cards, and the portal's settings."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import stripe

from tests.stripe_server.annotations import blank
from tests.stripe_server.state import Fault, State, Usage, wrong

MOST_AHEAD_SECONDS = 5 * 60
MOST_BEHIND_SECONDS = 35 * 24 * 3600

GOOD_CARD = "4242424242424242"
DECLINED_CARD = "4000000000000002"
"""Refused when it is given."""
FAILING_CARD = "4000000000000341"
"""Taken when it is given; each later charge fails."""


def create_product(state: State, given: dict[str, Any]) -> dict[str, Any]:
    product_id = given.get("id") or state.fresh_id("prod")
    if product_id in state.objects.get("product", {}):
        raise wrong(f"Product already exists: {product_id}", "id", "resource_already_exists")
    fields = {name: given[name] for name in ("name", "description", "unit_label", "metadata") if name in given}
    made = blank(
        stripe.Product,
        id=product_id,
        object="product",
        active=True,
        created=state.now,
        updated=state.now,
        type="service",
        **fields,
    )
    state.emit("product.created", state.keep(made))
    return made


def update_product(state: State, product_id: str, given: dict[str, Any]) -> dict[str, Any]:
    product = state.get("product", product_id)
    product.update({name: given[name] for name in ("name", "active", "description") if name in given})
    product["updated"] = state.now
    return product


def create_price(state: State, given: dict[str, Any]) -> dict[str, Any]:
    state.get("product", given["product"])
    recurring, key = given.get("recurring"), given.get("lookup_key")
    if recurring and recurring.get("usage_type") == "metered":
        state.get("billing.meter", recurring.get("meter", ""))
    amount = given.get("unit_amount_decimal") or given.get("unit_amount")
    if amount is None:
        raise wrong("You must specify either `unit_amount` or `unit_amount_decimal`.", "unit_amount")
    exactly = Decimal(amount)
    if -exactly.as_tuple().exponent > 12:  # type: ignore[operator]
        raise wrong("Invalid decimal: at most 12 decimal places.", "unit_amount_decimal")
    for other in state.of_kind("price"):
        if key and other["lookup_key"] == key:
            if given.get("transfer_lookup_key") is not True:
                raise wrong(f"A price already uses that lookup key: {key}", "lookup_key")
            other["lookup_key"] = None
    made = blank(
        stripe.Price,
        id=state.fresh_id("price"),
        object="price",
        active=True,
        billing_scheme="per_unit",
        created=state.now,
        currency=given["currency"],
        lookup_key=key,
        nickname=given.get("nickname"),
        product=given["product"],
        recurring=recurring
        and {
            "interval": recurring["interval"],
            "interval_count": int(recurring.get("interval_count", 1)),
            "meter": recurring.get("meter"),
            "trial_period_days": None,
            "usage_type": recurring.get("usage_type", "licensed"),
        },
        tax_behavior="unspecified",
        type="recurring" if recurring else "one_time",
        unit_amount=int(exactly) if exactly == int(exactly) else None,
        unit_amount_decimal=format(exactly.normalize(), "f"),
    )
    state.emit("price.created", state.keep(made))
    return made


def create_meter(state: State, given: dict[str, Any]) -> dict[str, Any]:
    if any(each["event_name"] == given["event_name"] for each in state.of_kind("billing.meter")):
        raise wrong("An active meter already exists with this event name.", "event_name")
    made = blank(
        stripe.billing.Meter,
        id=state.fresh_id("mtr"),
        object="billing.meter",
        created=state.now,
        updated=state.now,
        display_name=given["display_name"],
        event_name=given["event_name"],
        status="active",
        default_aggregation={"formula": given["default_aggregation"]["formula"]},
        customer_mapping=given.get("customer_mapping", {"type": "by_id", "event_payload_key": "stripe_customer_id"}),
        value_settings=given.get("value_settings", {"event_payload_key": "value"}),
    )
    return state.keep(made)


def create_meter_event(state: State, given: dict[str, Any]) -> dict[str, Any]:
    meter = next((each for each in state.of_kind("billing.meter") if each["event_name"] == given["event_name"]), None)
    if meter is None:
        raise wrong(f"No active meter found for event name {given['event_name']}", "event_name")
    at, payload = int(given.get("timestamp", state.now)), given["payload"]
    if at > state.now + MOST_AHEAD_SECONDS or at < state.now - MOST_BEHIND_SECONDS:
        raise wrong("Timestamp must be within the past 35 calendar days or up to 5 minutes ahead.", "timestamp")
    identifier = given.get("identifier") or state.fresh_id("mevt")
    if identifier in state.meter_identifiers:
        raise wrong(f"An event already exists with identifier {identifier}.", "identifier")
    customer = payload[meter["customer_mapping"]["event_payload_key"]]
    state.get("customer", customer)
    value = int(payload[meter["value_settings"]["event_payload_key"]])
    state.usage.append(Usage(customer, given["event_name"], at, value))
    made = blank(
        stripe.billing.MeterEvent,
        object="billing.meter_event",
        created=state.now,
        event_name=given["event_name"],
        identifier=identifier,
        payload=payload,
        timestamp=at,
    )
    state.meter_identifiers[identifier] = made
    return made


def create_customer(state: State, given: dict[str, Any]) -> dict[str, Any]:
    fields = {name: given[name] for name in ("name", "email", "description") if name in given}
    made = blank(
        stripe.Customer,
        id=state.fresh_id("cus"),
        object="customer",
        balance=0,
        created=state.now,
        delinquent=False,
        invoice_settings=blank(stripe.Customer.InvoiceSettings),
        metadata=given.get("metadata", {}),
        tax_exempt="none",
        **fields,
    )
    state.emit("customer.created", state.keep(made))
    return made


def delete_customer(state: State, customer_id: str) -> dict[str, Any]:
    state.get("customer", customer_id)
    gone = {"id": customer_id, "object": "customer", "deleted": True}
    state.objects["customer"][customer_id] = gone
    return gone


def give_card(state: State, customer: dict[str, Any], number: str) -> dict[str, Any]:
    """Keep a customer's card as the one that is charged.

    Raises:
        Fault: it is declined.
    """
    number = number.replace(" ", "")
    if number == DECLINED_CARD:
        raise Fault(402, "card_error", "Your card was declined.", code="card_declined")
    if number not in (GOOD_CARD, FAILING_CARD):
        raise Fault(402, "card_error", "Your card number is incorrect.", code="incorrect_number")
    made = blank(
        stripe.PaymentMethod,
        id=state.fresh_id("pm"),
        object="payment_method",
        created=state.now,
        customer=customer["id"],
        type="card",
        card=blank(
            stripe.PaymentMethod.Card, brand="visa", last4=number[-4:], exp_month=12, exp_year=2040, funding="credit"
        ),
    )
    state.keep(made)
    customer["invoice_settings"]["default_payment_method"] = made["id"]
    for subscription in state.of_kind("subscription"):
        if subscription["customer"] == customer["id"]:
            subscription["default_payment_method"] = made["id"]
    return made


def charge_problem(state: State, customer: dict[str, Any]) -> str | None:
    """Return why the customer's card cannot be charged now, or None."""
    method_id = customer["invoice_settings"]["default_payment_method"]
    if method_id is None:
        return "There is no card on file."
    if state.get("payment_method", method_id)["card"]["last4"] == FAILING_CARD[-4:]:
        return "Your card was declined."
    return None


def create_configuration(state: State, given: dict[str, Any]) -> dict[str, Any]:
    features = blank(stripe.billing_portal.Configuration.Features)
    for name, each in given["features"].items():
        features[name].update(each)
    made = blank(
        stripe.billing_portal.Configuration,
        id=state.fresh_id("bpc"),
        object="billing_portal.configuration",
        active=True,
        created=state.now,
        updated=state.now,
        features=features,
        metadata=given.get("metadata", {}),
        name=given.get("name"),
    )
    return state.keep(made)


def create_endpoint(state: State, given: dict[str, Any], secret: str) -> dict[str, Any]:
    made = blank(
        stripe.WebhookEndpoint,
        id=state.fresh_id("we"),
        object="webhook_endpoint",
        api_version=given.get("api_version"),
        created=state.now,
        enabled_events=given["enabled_events"],
        secret=secret,
        status="enabled",
        url=given["url"],
    )
    return state.keep(made)
