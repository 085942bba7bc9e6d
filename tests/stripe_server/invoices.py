"""Invoices: their lines and proration, from draft to paid or failed, refunds, and what the next one will be."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import stripe

from tests.stripe_server import catalogue
from tests.stripe_server.annotations import blank
from tests.stripe_server.state import Fault, State, wrong

FINALIZES_AFTER_SECONDS = 3600
RETRY_AFTER_SECONDS = 3 * 24 * 3600
MOST_ATTEMPTS = 4


def create_invoice(
    state: State, subscription: dict[str, Any], lines: list[dict[str, Any]], *, reason: str, period: tuple[int, int]
) -> dict[str, Any]:
    """Keep a draft."""
    customer = state.get("customer", subscription["customer"])
    invoice = blank(
        stripe.Invoice,
        id=state.fresh_id("in"),
        object="invoice",
        auto_advance=True,
        automatically_finalizes_at=state.now + FINALIZES_AFTER_SECONDS,
        billing_reason=reason,
        collection_method="charge_automatically",
        created=state.now,
        currency=subscription["currency"],
        customer=customer["id"],
        customer_email=customer["email"],
        customer_name=customer["name"],
        issuer={"account": None, "type": "self"},
        parent={
            "quote_details": None,
            "subscription_details": {
                "metadata": dict(subscription["metadata"]),
                "subscription": subscription["id"],
                "subscription_proration_date": None,
            },
            "type": "subscription_details",
        },
        period_start=period[0],
        period_end=period[1],
        starting_balance=customer["balance"],
        status="draft",
    )
    _add(state, invoice, lines)
    state.keep(invoice)
    subscription["latest_invoice"] = invoice["id"]
    state.emit("invoice.created", invoice)
    return invoice


def line(
    state: State,
    subscription: dict[str, Any],
    item: dict[str, Any],
    period: tuple[int, int],
    *,
    amount: int,
    quantity: int = 1,
    proration: bool = False,
    words: str = "",
) -> dict[str, Any]:
    price = item["price"]
    product = state.get("product", price["product"])
    return blank(
        stripe.InvoiceLineItem,
        id=state.fresh_id("il"),
        object="line_item",
        amount=amount,
        currency=price["currency"],
        description=words or f"{quantity} × {product['name']}",
        discountable=not proration,
        parent={
            "invoice_item_details": None,
            "subscription_item_details": {
                "invoice_item": None,
                "proration": proration,
                "proration_details": None,
                "subscription": subscription["id"],
                "subscription_item": item["id"],
            },
            "type": "subscription_item_details",
        },
        period={"start": period[0], "end": period[1]},
        pricing={
            "price_details": {"price": price["id"], "product": price["product"]},
            "type": "price_details",
            "unit_amount_decimal": price["unit_amount_decimal"],
        },
        quantity=quantity,
        quantity_decimal=str(quantity),
        subscription=subscription["id"],
        subtotal=amount,
    )


def licensed_lines(
    state: State, subscription: dict[str, Any], period: tuple[int, int], *, is_trial: bool = False
) -> list[dict[str, Any]]:
    return [
        line(state, subscription, item, period, amount=0 if is_trial else item["price"]["unit_amount"] or 0)
        for item in subscription["items"]["data"]
        if not is_metered(item["price"])
    ]


def metered_lines(state: State, subscription: dict[str, Any], period: tuple[int, int]) -> list[dict[str, Any]]:
    """Return what was metered in a period and is not billed yet; a line of nothing is left out."""
    return [
        found
        for item in subscription["items"]["data"]
        if is_metered(item["price"]) and (found := usage_line(state, subscription, item, period)) is not None
    ]


def usage_line(
    state: State, subscription: dict[str, Any], item: dict[str, Any], period: tuple[int, int]
) -> dict[str, Any] | None:
    meter = state.get("billing.meter", item["price"]["recurring"]["meter"])
    since = max(period[0], state.usage_from.get(item["id"], 0))
    quantity = sum(
        each.value
        for each in state.usage
        if each.customer == subscription["customer"]
        and each.event_name == meter["event_name"]
        and since <= each.at < period[1]
    )
    if not quantity:
        return None
    amount = rounded(quantity * Decimal(item["price"]["unit_amount_decimal"]))
    return line(state, subscription, item, (since, period[1]), amount=amount, quantity=quantity)


def is_metered(price: dict[str, Any]) -> bool:
    return bool(price["recurring"]) and price["recurring"]["usage_type"] == "metered"


def rounded(amount: Decimal) -> int:
    return int(amount.quantize(Decimal(1), ROUND_HALF_UP))


def finalize(state: State, invoice: dict[str, Any]) -> None:
    """Turn a draft into a demand, with what was metered until now, and charge it."""
    subscription = subscription_of(state, invoice)
    if subscription is not None and invoice["billing_reason"] == "subscription_cycle":
        _add(state, invoice, metered_lines(state, subscription, (invoice["period_start"], invoice["period_end"])))
    customer = state.get("customer", invoice["customer"])
    invoice["starting_balance"] = customer["balance"]
    owed = invoice["total"] + customer["balance"]
    invoice["amount_due"] = invoice["amount_remaining"] = max(0, owed)
    customer["balance"] = invoice["ending_balance"] = min(0, owed)
    invoice["number"] = f"WARM-{len(state.of_kind('invoice')):04d}"
    invoice["status"] = "open"
    invoice["automatically_finalizes_at"] = None
    invoice["effective_at"] = invoice["status_transitions"]["finalized_at"] = state.now
    invoice["hosted_invoice_url"] = f"{state.url}/invoice/{invoice['id']}"
    invoice["invoice_pdf"] = f"{state.url}/invoice/{invoice['id']}/pdf"
    state.emit("invoice.finalized", invoice)
    attempt(state, invoice)


def attempt(state: State, invoice: dict[str, Any]) -> bool:
    """Charge an open invoice; return whether it is paid."""
    before = {name: invoice[name] for name in ("status", "attempt_count", "amount_paid", "amount_remaining")}
    customer = state.get("customer", invoice["customer"])
    invoice["attempted"] = True
    problem = catalogue.charge_problem(state, customer) if invoice["amount_due"] else None
    if invoice["amount_due"]:
        invoice["attempt_count"] += 1
    if problem is None:
        if invoice["amount_due"]:
            _charge(state, invoice)
        invoice.update(amount_paid=invoice["amount_due"], amount_remaining=0, status="paid", next_payment_attempt=None)
        invoice["status_transitions"]["paid_at"] = state.now
        state.emit("invoice.paid", invoice, before)
        state.emit("invoice.payment_succeeded", invoice, before)
        return True
    again = invoice["attempt_count"] < MOST_ATTEMPTS
    invoice["next_payment_attempt"] = state.now + RETRY_AFTER_SECONDS if again else None
    state.emit("invoice.payment_failed", invoice, before)
    return False


def pay(state: State, invoice: dict[str, Any]) -> None:
    """Charge an invoice because somebody asked for it.

    Raises:
        Fault: it is not open, or the card is declined.
    """
    if invoice["status"] != "open":
        raise wrong(f"Invoice is {invoice['status']}.", code="invoice_not_open")
    if not attempt(state, invoice):
        raise Fault(402, "card_error", "Your card was declined.", code="card_declined")


def refund(state: State, given: dict[str, Any]) -> dict[str, Any]:
    intent = state.get("payment_intent", given["payment_intent"])
    charge = state.get("charge", intent["latest_charge"])
    amount = int(given.get("amount", charge["amount"] - charge["amount_refunded"]))
    if amount > charge["amount"] - charge["amount_refunded"]:
        raise wrong("Refund amount is greater than the unrefunded amount on the charge.", "amount")
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount"]
    made = blank(
        stripe.Refund,
        id=state.fresh_id("re"),
        object="refund",
        amount=amount,
        charge=charge["id"],
        created=state.now,
        currency=charge["currency"],
        customer=charge["customer"],
        payment_intent=intent["id"],
        status="succeeded",
    )
    state.emit("charge.refunded", charge)
    state.emit("refund.created", state.keep(made))
    return made


def subscription_of(state: State, invoice: dict[str, Any]) -> dict[str, Any] | None:
    details = (invoice["parent"] or {}).get("subscription_details")
    return state.get("subscription", details["subscription"]) if details else None


def _add(state: State, invoice: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    for each in lines:
        each["invoice"] = invoice["id"]
    invoice["lines"]["data"] += lines
    invoice["lines"]["url"] = f"/v1/invoices/{invoice['id']}/lines"
    total = sum(each["amount"] for each in invoice["lines"]["data"])
    invoice.update(subtotal=total, subtotal_excluding_tax=total, total=total, total_excluding_tax=total, total_taxes=[])
    invoice["amount_due"] = invoice["amount_remaining"] = max(0, total)


def _charge(state: State, invoice: dict[str, Any]) -> None:
    intent_id, charge_id = state.fresh_id("pi"), state.fresh_id("ch")
    shared = {"amount": invoice["amount_due"], "created": state.now, "currency": invoice["currency"]}
    state.keep(
        blank(
            stripe.Charge,
            id=charge_id,
            object="charge",
            amount_captured=invoice["amount_due"],
            captured=True,
            customer=invoice["customer"],
            paid=True,
            payment_intent=intent_id,
            status="succeeded",
            **shared,
        )
    )
    state.keep(
        blank(
            stripe.PaymentIntent,
            id=intent_id,
            object="payment_intent",
            amount_received=invoice["amount_due"],
            customer=invoice["customer"],
            latest_charge=charge_id,
            payment_method_types=["card"],
            status="succeeded",
            **shared,
        )
    )
    state.keep(
        blank(
            stripe.InvoicePayment,
            id=state.fresh_id("inpay"),
            object="invoice_payment",
            amount_paid=invoice["amount_due"],
            amount_requested=invoice["amount_due"],
            created=state.now,
            currency=invoice["currency"],
            invoice=invoice["id"],
            is_default=True,
            payment={"charge": None, "payment_intent": intent_id, "payment_record": None, "type": "payment_intent"},
            status="paid",
            status_transitions={"canceled_at": None, "paid_at": state.now},
        )
    )
