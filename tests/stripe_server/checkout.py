"""Checkout and portal sessions, and the pages a person sees: Checkout, the portal, an invoice to be paid."""

from __future__ import annotations

import html
from typing import Any

import stripe
from aiohttp import web

from tests.stripe_server import catalogue, invoices, subscriptions
from tests.stripe_server.annotations import blank
from tests.stripe_server.state import Fault, State, wrong

STATE = web.AppKey("state", State)
SHORTEST_TRIAL_SECONDS = 48 * 3600
EXPIRES_AFTER_SECONDS = 24 * 3600

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><link rel="icon" href="data:,">
<style>body{{font:16px sans-serif;max-width:30rem;margin:3rem auto;padding:0 1rem}}
input,button{{font:inherit;padding:.5rem;margin:.3rem 0}}</style><h1>{title}</h1>{inner}</html>"""
CARD = '<label>Card number <input name="card" autocomplete="off"></label>'


def create_session(state: State, given: dict[str, Any]) -> dict[str, Any]:
    if given["mode"] != "subscription":
        raise wrong("This stand-in sells subscriptions.", "mode")
    customer = state.get("customer", given["customer"])
    for item in given["line_items"]:
        price = state.get("price", item["price"])
        if invoices.is_metered(price) and "quantity" in item:
            raise wrong("Quantity should not be specified where usage_type is `metered`.", "line_items")
    trial_end = given.get("subscription_data", {}).get("trial_end")
    if trial_end is not None and int(trial_end) < state.now + SHORTEST_TRIAL_SECONDS:
        raise wrong("The `trial_end` date has to be at least 2 days in the future.", "subscription_data[trial_end]")
    session_id = state.fresh_id("cs_test")
    made = blank(
        stripe.checkout.Session,
        id=session_id,
        object="checkout.session",
        allow_promotion_codes=given.get("allow_promotion_codes"),
        cancel_url=given.get("cancel_url"),
        client_reference_id=given.get("client_reference_id"),
        created=state.now,
        currency=state.get("price", given["line_items"][0]["price"])["currency"],
        customer=customer["id"],
        expires_at=state.now + EXPIRES_AFTER_SECONDS,
        mode="subscription",
        payment_method_types=["card"],
        payment_status="unpaid",
        status="open",
        success_url=given.get("success_url"),
        ui_mode="hosted_page",
        url=f"{state.url}/checkout/{session_id}",
    )
    state.objects.setdefault("what sessions are for", {})[session_id] = given
    return state.keep(made)


def expire_session(state: State, session_id: str) -> dict[str, Any]:
    session = state.get("checkout.session", session_id)
    if session["status"] != "open":
        raise wrong('Only Checkout Sessions with a status in ["open"] can be expired.')
    session["status"], session["url"] = "expired", None
    state.emit("checkout.session.expired", session)
    return session


def create_portal(state: State, given: dict[str, Any]) -> dict[str, Any]:
    state.get("customer", given["customer"])
    configuration = given.get("configuration")
    if configuration is None:
        raise wrong("You can't create a portal session in test mode until you save your customer portal settings.")
    state.get("billing_portal.configuration", configuration)
    session_id = state.fresh_id("bps")
    made = blank(
        stripe.billing_portal.Session,
        id=session_id,
        object="billing_portal.session",
        configuration=configuration,
        created=state.now,
        customer=given["customer"],
        return_url=given.get("return_url"),
        url=f"{state.url}/portal/{session_id}",
    )
    return state.keep(made)


def complete(state: State, session: dict[str, Any], card: str) -> str:
    """Subscribe with a card, and return where the browser goes.

    Raises:
        Fault: the card is declined; the session stays open.
    """
    if session["status"] != "open":
        raise wrong("This Checkout Session is not open any more.")
    given = state.objects["what sessions are for"][session["id"]]
    catalogue.give_card(state, state.get("customer", session["customer"]), card)
    details = given.get("subscription_data", {})
    subscription = subscriptions.create(
        state,
        {
            "customer": session["customer"],
            "items": given["line_items"],
            "metadata": details.get("metadata", {}),
            "trial_end": details.get("trial_end"),
        },
    )
    session.update(
        status="complete",
        payment_status="no_payment_required" if subscription["trial_end"] else "paid",
        subscription=subscription["id"],
        invoice=subscription["latest_invoice"],
        url=None,
    )
    state.emit("checkout.session.completed", session)
    return session["success_url"].replace("{CHECKOUT_SESSION_ID}", session["id"])


def add_pages(application: web.Application) -> None:
    application.router.add_route("*", "/checkout/{id}", _checkout_page)
    application.router.add_route("*", "/portal/{id}", _portal_page)
    application.router.add_route("*", "/invoice/{id}", _invoice_page)
    application.router.add_get("/invoice/{id}/pdf", _invoice_pdf)


def _shown(title: str, inner: str, problem: str = "") -> web.Response:
    notice = f'<p role="alert">{html.escape(problem)}</p>' if problem else ""
    return web.Response(text=PAGE.format(title=html.escape(title), inner=notice + inner), content_type="text/html")


async def _checkout_page(request: web.Request) -> web.Response:
    state = request.app[STATE]
    session, problem = state.get("checkout.session", request.match_info["id"]), ""
    if request.method == "POST":
        try:
            raise web.HTTPSeeOther(complete(state, session, str((await request.post()).get("card", ""))))
        except Fault as fault:
            problem = str(fault)
    given = state.objects["what sessions are for"][session["id"]]
    names = "".join(
        f"<li>{html.escape(state.get('price', each['price'])['nickname'] or '')}</li>" for each in given["line_items"]
    )
    inner = f'<ul>{names}</ul><form method="post">{CARD}<br><button>Subscribe</button></form>'
    return _shown("Checkout", f'{inner}<a href="{html.escape(session["cancel_url"] or "")}">Back</a>', problem)


async def _portal_page(request: web.Request) -> web.Response:
    state = request.app[STATE]
    session, problem = state.get("billing_portal.session", request.match_info["id"]), ""
    customer = state.get("customer", session["customer"])
    if request.method == "POST":
        given = await request.post()
        try:
            if given.get("action") == "cancel":
                for each in state.of_kind("subscription"):
                    if each["customer"] == customer["id"] and each["status"] in subscriptions.LIVING:
                        subscriptions.update(state, each["id"], {"cancel_at_period_end": True})
                problem = "Cancelled at the end of the period."
            else:
                catalogue.give_card(state, customer, str(given.get("card", "")))
                problem = "The card is kept."
        except Fault as fault:
            problem = str(fault)
    inner = (
        f'<form method="post">{CARD}<br><button>Keep card</button></form>'
        '<form method="post"><button name="action" value="cancel">Cancel subscription</button></form>'
        f'<a href="{html.escape(session["return_url"] or "")}">Return</a>'
    )
    return _shown("Customer portal", inner, problem)


async def _invoice_page(request: web.Request) -> web.Response:
    state = request.app[STATE]
    invoice, problem = state.get("invoice", request.match_info["id"]), ""
    if request.method == "POST":
        try:
            catalogue.give_card(
                state, state.get("customer", invoice["customer"]), str((await request.post()).get("card", ""))
            )
            invoices.pay(state, invoice)
            subscriptions.settle(state, invoice)
        except Fault as fault:
            problem = str(fault)
    lines = "".join(
        f"<li>{html.escape(each['description'] or '')}: {each['amount']}</li>" for each in invoice["lines"]["data"]
    )
    inner = f"<p>{invoice['total']} {invoice['currency']}: <b>{invoice['status']}</b></p><ul>{lines}</ul>"
    if invoice["status"] == "open":
        inner += f'<form method="post">{CARD}<br><button>Pay</button></form>'
    return _shown(f"Invoice {invoice['number']}", inner, problem)


async def _invoice_pdf(request: web.Request) -> web.Response:
    invoice = request.app[STATE].get("invoice", request.match_info["id"])
    return web.Response(body=f"%PDF-1.4\n% {invoice['number']}\n".encode(), content_type="application/pdf")
