"""Subscriptions: beginning, changing plans with proration, cancelling, and what comes due as the clock moves."""

from __future__ import annotations

import calendar
import copy
import datetime
from decimal import Decimal
from typing import Any

import stripe

from tests.stripe_server import catalogue, invoices
from tests.stripe_server.annotations import blank
from tests.stripe_server.state import Fault, State, wrong

LIVING = ("trialing", "active", "past_due", "unpaid")


def create(state: State, given: dict[str, Any]) -> dict[str, Any]:
    """Begin a subscription: with a trial, or charged now. Checkout calls it too.

    Raises:
        Fault: the card is declined; nothing was begun.
    """
    customer = state.get("customer", given["customer"])
    trial_end = int(given["trial_end"]) if given.get("trial_end") else None
    if trial_end is None and (problem := catalogue.charge_problem(state, customer)):
        raise Fault(402, "card_error", problem, code="card_declined")
    now = state.now
    subscription = blank(
        stripe.Subscription,
        id=state.fresh_id("sub"),
        object="subscription",
        billing_cycle_anchor=trial_end or now,
        billing_mode={"flexible": None, "type": "flexible", "updated_at": None},
        cancellation_details={"comment": None, "feedback": None, "feedback_option": None, "reason": None},
        collection_method="charge_automatically",
        created=now,
        customer=customer["id"],
        default_payment_method=customer["invoice_settings"]["default_payment_method"],
        metadata=given.get("metadata", {}),
        start_date=now,
        status="active" if trial_end is None else "trialing",
        trial_start=now if trial_end else None,
        trial_end=trial_end,
        trial_settings=blank(
            stripe.Subscription.TrialSettings,
            end_behavior=blank(stripe.Subscription.TrialSettings.EndBehavior, missing_payment_method="create_invoice"),
        ),
    )
    period = (now, trial_end or add_month(now, now))
    subscription["items"] = {"object": "list", "has_more": False, "url": "/v1/subscription_items", "data": []}
    for each in given["items"]:
        _add_item(state, subscription, state.get("price", each["price"]), period)
    subscription["currency"] = subscription["items"]["data"][0]["price"]["currency"]
    state.emit("customer.subscription.created", state.keep(subscription))
    lines = invoices.licensed_lines(state, subscription, period, is_trial=trial_end is not None)
    first = invoices.create_invoice(state, subscription, lines, reason="subscription_create", period=(now, now))
    invoices.finalize(state, first)
    settle(state, first)
    return subscription


def update(state: State, subscription_id: str, given: dict[str, Any]) -> dict[str, Any]:
    """Change items, or whether it ends with its period.

    Raises:
        Fault: it has ended, or `error_if_incomplete` and the card is declined: nothing is changed.
    """
    subscription = state.get("subscription", subscription_id)
    if subscription["status"] == "canceled":
        raise wrong("A canceled subscription can only update its cancellation_details.")
    before = copy.deepcopy(subscription)
    if "metadata" in given:
        subscription["metadata"] |= given["metadata"]
    if "cancel_at_period_end" in given:
        ends = given["cancel_at_period_end"] is True
        subscription["cancel_at_period_end"] = ends
        subscription["cancel_at"] = _period(subscription)[1] if ends else None
        subscription["canceled_at"] = state.now if ends else None
    if "items" in given:
        _change_items(state, subscription, given)
    state.emit("customer.subscription.updated", subscription, before)
    return subscription


def preview(state: State, given: dict[str, Any]) -> dict[str, Any]:
    """Return the invoice that a change would make now, or the next one; nothing is kept."""
    subscription = state.get("subscription", given["subscription"])
    details = given.get("subscription_details", {})
    if "items" in details:
        reason, period = "subscription_update", _period(subscription)
        lines = _proration_lines(state, subscription, details["items"], int(details.get("proration_date", state.now)))
    else:
        started, ends = period = _period(subscription)
        reason, lines = "upcoming", list(state.pending.get(subscription["id"], []))
        lines += invoices.metered_lines(state, subscription, period)
        if not subscription["cancel_at_period_end"]:
            following = (ends, add_month(ends, subscription["billing_cycle_anchor"]))
            lines += invoices.licensed_lines(state, subscription, following)
        elif not lines:
            raise Fault(404, "invalid_request_error", "No upcoming invoices.", code="invoice_upcoming_none")
    scratch = copy.deepcopy(state)
    subscription = scratch.get("subscription", subscription["id"])
    invoice = invoices.create_invoice(scratch, subscription, lines, reason=reason, period=period)
    invoice["created"] = state.now if reason == "subscription_update" else period[1]
    invoice["next_payment_attempt"] = invoice["created"] + invoices.FINALIZES_AFTER_SECONDS
    return invoice


def advance(state: State, to: int) -> None:
    """Move the clock, and let everything happen that comes due, each at its time."""
    while True:
        due = [each for each in _due(state) if each[0] <= to]
        if not due:
            break
        at, _, act, about = min(due, key=lambda each: each[:2])
        _set_clock(state, max(at, state.now))
        act(state, about)
    _set_clock(state, max(to, state.now))


def settle(state: State, invoice: dict[str, Any]) -> None:
    """Let a subscription's state follow from an invoice that was just charged."""
    subscription = invoices.subscription_of(state, invoice)
    if subscription is None or subscription["status"] not in LIVING:
        return
    before = copy.deepcopy(subscription)
    unpaid = [
        each
        for each in state.of_kind("invoice")
        if each["status"] == "open" and each["customer"] == subscription["customer"]
    ]
    if invoice["status"] == "open":
        if invoice["next_payment_attempt"] is None:
            return _end(state, subscription, reason="payment_failed")
        subscription["status"] = "past_due"
    elif not unpaid and subscription["status"] in ("past_due", "unpaid"):
        subscription["status"] = "active"
    if subscription["status"] != before["status"]:
        state.emit("customer.subscription.updated", subscription, before)


def cancel_now(state: State, subscription_id: str) -> dict[str, Any]:
    subscription = state.get("subscription", subscription_id)
    _end(state, subscription, reason="cancellation_requested")
    return subscription


def add_month(at: int, anchor: int) -> int:
    """Return a month later, on the anchor's day or the month's last."""
    moment = datetime.datetime.fromtimestamp(at, datetime.UTC)
    year, month = (moment.year + 1, 1) if moment.month == 12 else (moment.year, moment.month + 1)
    day = datetime.datetime.fromtimestamp(anchor, datetime.UTC).day
    return int(moment.replace(year=year, month=month, day=min(day, calendar.monthrange(year, month)[1])).timestamp())


def _due(state: State) -> list[tuple[int, str, Any, dict[str, Any]]]:
    """Return what waits for its time: (when, id, what to do, about what)."""
    waiting: list[tuple[int, str, Any, dict[str, Any]]] = []
    for subscription in state.of_kind("subscription"):
        if subscription["status"] in LIVING:
            waiting.append((_period(subscription)[1], subscription["id"], _turn_period, subscription))
    for invoice in state.of_kind("invoice"):
        if invoice["status"] == "draft":
            waiting.append((invoice["automatically_finalizes_at"], invoice["id"], _finalize, invoice))
        elif invoice["status"] == "open" and invoice["next_payment_attempt"] is not None:
            waiting.append((invoice["next_payment_attempt"], invoice["id"], _try_again, invoice))
    return waiting


def _finalize(state: State, invoice: dict[str, Any]) -> None:
    invoices.finalize(state, invoice)
    settle(state, invoice)


def _try_again(state: State, invoice: dict[str, Any]) -> None:
    invoices.attempt(state, invoice)
    settle(state, invoice)


def _turn_period(state: State, subscription: dict[str, Any]) -> None:
    before, (started, ended) = copy.deepcopy(subscription), _period(subscription)
    if subscription["cancel_at_period_end"]:
        if lines := invoices.metered_lines(state, subscription, (started, ended)):
            last = invoices.create_invoice(
                state, subscription, lines, reason="subscription_cycle", period=(ended, ended)
            )
            invoices.finalize(state, last)
        return _end(state, subscription, reason="cancellation_requested")
    was_trial = subscription["status"] == "trialing"
    if was_trial:
        subscription["status"] = "active"
    following = (ended, add_month(ended, subscription["billing_cycle_anchor"]))
    for item in subscription["items"]["data"]:
        item["current_period_start"], item["current_period_end"] = following
    lines = state.pending.pop(subscription["id"], [])
    lines += invoices.licensed_lines(state, subscription, following)
    invoices.create_invoice(
        state,
        subscription,
        lines,
        reason="subscription_cycle",
        # Nothing that was metered in a trial is charged.
        period=(ended, ended) if was_trial else (started, ended),
    )
    state.emit("customer.subscription.updated", subscription, before)
    return None


def _end(state: State, subscription: dict[str, Any], *, reason: str) -> None:
    subscription["status"] = "canceled"
    subscription["ended_at"] = state.now
    subscription["canceled_at"] = subscription["canceled_at"] or state.now
    subscription["cancellation_details"]["reason"] = reason
    state.emit("customer.subscription.deleted", subscription)


def _change_items(state: State, subscription: dict[str, Any], given: dict[str, Any]) -> None:
    at = int(given.get("proration_date", state.now))
    behaviour = given.get("proration_behavior", "create_prorations")
    lines = [] if behaviour == "none" else _proration_lines(state, subscription, given["items"], at)
    total = sum(each["amount"] for each in lines) + state.get("customer", subscription["customer"])["balance"]
    if behaviour == "always_invoice" and given.get("payment_behavior") == "error_if_incomplete" and total > 0:
        if problem := catalogue.charge_problem(state, state.get("customer", subscription["customer"])):
            raise Fault(402, "card_error", problem, code="card_declined")
    for each in given["items"]:
        item = _item(subscription, each["id"]) if "id" in each else None
        if each.get("deleted") is True:
            subscription["items"]["data"].remove(item)
        elif item is None:
            _add_item(state, subscription, state.get("price", each["price"]), _period(subscription))
        elif each.get("price", item["price"]["id"]) != item["price"]["id"]:
            item["price"] = copy.deepcopy(state.get("price", each["price"]))
            item["plan"] = _plan_of(item["price"])
            if invoices.is_metered(item["price"]):
                state.usage_from[item["id"]] = at
    if not lines:
        return
    if behaviour == "always_invoice":
        invoice = invoices.create_invoice(
            state, subscription, lines, reason="subscription_update", period=(state.now, state.now)
        )
        _finalize(state, invoice)
    else:
        state.pending.setdefault(subscription["id"], []).extend(lines)


def _proration_lines(
    state: State, subscription: dict[str, Any], items: list[dict[str, Any]], at: int
) -> list[dict[str, Any]]:
    """Return the credit for what is left of the old prices and the charge for the new, to the second; what was metered
    at an old price is billed with them, as in flexible billing.
    """
    if subscription["status"] == "trialing":
        return []
    started, ends = _period(subscription)
    if not started <= at <= ends:
        raise wrong("Proration date must be in the current period.", "subscription_proration_date")
    lines: list[dict[str, Any]] = []

    def part(amount: int) -> int:
        return invoices.rounded(Decimal(amount) * (ends - at) / (ends - started))

    for each in items:
        item = _item(subscription, each["id"]) if "id" in each else None
        is_gone = each.get("deleted") is True
        price = None if is_gone else state.get("price", each["price"] if "price" in each else item["price"]["id"])
        if item is not None and (is_gone or price["id"] != item["price"]["id"]):
            name = state.get("product", item["price"]["product"])["name"]
            if invoices.is_metered(item["price"]):
                used = invoices.usage_line(state, subscription, item, (started, at))
                lines += [used] if used else []
            elif credit := part(item["price"]["unit_amount"]):
                lines.append(
                    invoices.line(
                        state,
                        subscription,
                        item,
                        (at, ends),
                        amount=-credit,
                        proration=True,
                        words=f"Unused time on {name}",
                    )
                )
        if (
            price is not None
            and not invoices.is_metered(price)
            and (item is None or price["id"] != item["price"]["id"])
        ):
            named = {"id": (item or {}).get("id", "si_new"), "price": price}
            name = state.get("product", price["product"])["name"]
            lines.append(
                invoices.line(
                    state,
                    subscription,
                    named,
                    (at, ends),
                    amount=part(price["unit_amount"]),
                    proration=True,
                    words=f"Remaining time on {name}",
                )
            )
    return lines


def _item(subscription: dict[str, Any], item_id: str) -> dict[str, Any]:
    for item in subscription["items"]["data"]:
        if item["id"] == item_id:
            return item
    raise wrong(f"No such subscription item: {item_id}", "items")


def _add_item(state: State, subscription: dict[str, Any], price: dict[str, Any], period: tuple[int, int]) -> None:
    subscription["items"]["data"].append(
        blank(
            stripe.SubscriptionItem,
            id=state.fresh_id("si"),
            object="subscription_item",
            created=state.now,
            current_period_start=period[0],
            current_period_end=period[1],
            plan=_plan_of(price),
            price=copy.deepcopy(price),
            quantity=None if invoices.is_metered(price) else 1,
            subscription=subscription["id"],
        )
    )


def _plan_of(price: dict[str, Any]) -> dict[str, Any]:
    return blank(
        stripe.Plan,
        id=price["id"],
        object="plan",
        active=True,
        amount=price["unit_amount"],
        amount_decimal=price["unit_amount_decimal"],
        created=price["created"],
        currency=price["currency"],
        interval="month",
        interval_count=1,
        product=price["product"],
        usage_type=price["recurring"]["usage_type"],
    )


def _period(subscription: dict[str, Any]) -> tuple[int, int]:
    item = subscription["items"]["data"][0]
    return item["current_period_start"], item["current_period_end"]


def _set_clock(state: State, to: int) -> None:
    state.offset += to - state.now
