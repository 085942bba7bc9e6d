"""What tests ask of the stand-in that Stripe has no API for. Each answers with JSON."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from tests.stripe_server import catalogue, checkout, subscriptions
from tests.stripe_server.api import DELIVERIES, FAILURES
from tests.stripe_server.checkout import STATE


def add_control(application: web.Application) -> None:
    for name, act in (
        ("clock", _clock),
        ("advance", _advance),
        ("complete", _complete),
        ("card", _card),
        ("events", _events),
        ("redeliver", _redeliver),
        ("deliveries", _deliveries),
        ("objects", _objects),
        ("metered", _metered),
        ("fail", _fail),
        ("forget", _forget),
    ):
        application.router.add_post(f"/control/{name}", act)


async def _given(request: web.Request) -> dict[str, Any]:
    return await request.json() if request.can_read_body else {}


async def _clock(request: web.Request) -> web.Response:
    return web.json_response({"now": request.app[STATE].now})


async def _advance(request: web.Request) -> web.Response:
    """Move the clock by `seconds`, or to `to`."""
    state, given = request.app[STATE], await _given(request)
    subscriptions.advance(state, int(given.get("to", state.now + given.get("seconds", 0))))
    request.app[DELIVERIES].send_waiting()
    return web.json_response({"now": state.now})


async def _complete(request: web.Request) -> web.Response:
    """Do on a session's page what a person does: give a card and subscribe."""
    state, given = request.app[STATE], await _given(request)
    session = state.get("checkout.session", given["session"])
    address = checkout.complete(state, session, given.get("card", catalogue.GOOD_CARD))
    request.app[DELIVERIES].send_waiting()
    return web.json_response({"redirect": address})


async def _card(request: web.Request) -> web.Response:
    """Give a customer another card."""
    state, given = request.app[STATE], await _given(request)
    catalogue.give_card(state, state.get("customer", given["customer"]), given["card"])
    return web.json_response({})


async def _events(request: web.Request) -> web.Response:
    """Answer with all events, oldest first; of one customer, where one is given."""
    customer = (await _given(request)).get("customer")
    found = [
        each
        for each in request.app[STATE].of_kind("event")
        if customer in (None, each["data"]["object"].get("customer"), each["data"]["object"].get("id"))
    ]
    return web.json_response({"events": found})


async def _redeliver(request: web.Request) -> web.Response:
    """Send events again, in the order of `ids`."""
    state, deliveries = request.app[STATE], request.app[DELIVERIES]
    for event_id in (await _given(request))["ids"]:
        deliveries.send(state.get("event", event_id))
    return web.json_response({})


async def _deliveries(request: web.Request) -> web.Response:
    """Wait until every event is delivered or given up, and answer with all attempts."""
    deliveries = request.app[DELIVERIES]
    deliveries.send_waiting()
    async with asyncio.timeout(30):
        while not deliveries.is_idle:
            await asyncio.sleep(0.01)
    return web.json_response({"attempts": deliveries.log})


async def _objects(request: web.Request) -> web.Response:
    """Answer with everything that has a kind of Stripe's."""
    kept = request.app[STATE].objects
    return web.json_response({kind: list(each.values()) for kind, each in kept.items() if " " not in kind})


async def _metered(request: web.Request) -> web.Response:
    """Answer with the sum of what a customer's meter has counted."""
    state, given = request.app[STATE], await _given(request)
    return web.json_response({"sum": sum(each.value for each in state.usage if each.customer == given["customer"])})


async def _fail(request: web.Request) -> web.Response:
    """Let the next requests go wrong: `how`, a list of statuses, `cut`, or null for one that goes well."""
    request.app[FAILURES][:] = (await _given(request))["how"]
    return web.json_response({})


async def _forget(request: web.Request) -> web.Response:
    """Begin anew, at the real time, with no customers; what is sold stays."""
    state = request.app[STATE]
    stays = ("product", "price", "billing.meter", "billing_portal.configuration")
    state.objects = {kind: kept for kind, kept in state.objects.items() if kind in stays}
    for each in (state.usage, state.meter_identifiers, state.usage_from, state.pending, state.answers):
        each.clear()
    state.to_deliver.clear()
    request.app[FAILURES].clear()
    request.app[DELIVERIES].log.clear()
    state.offset = 0.0
    return web.json_response({})
