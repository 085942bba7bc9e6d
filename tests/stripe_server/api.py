"""The routes of the API: keys, forms, parameters, idempotency, lists and errors as Stripe has them."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web
from stripe import params

from tests.stripe_server import annotations, catalogue, checkout, invoices, subscriptions
from tests.stripe_server.checkout import STATE
from tests.stripe_server.deliveries import Deliveries
from tests.stripe_server.forms import read_form
from tests.stripe_server.state import Fault, State, wrong

DELIVERIES = web.AppKey("deliveries", Deliveries)
KEY = web.AppKey("key", str)
FAILURES = web.AppKey("failures", list)
"""How the next requests go wrong, for tests of what then: a status, or `cut`, the answer lost after the work."""


@dataclasses.dataclass(frozen=True)
class Route:
    """`takes`: the SDK's own parameters of the request."""

    method: str
    path: re.Pattern[str]
    takes: type
    act: Callable[..., dict[str, Any]]


def _route(method: str, path: str, takes: type, act: Callable[..., dict[str, Any]]) -> Route:
    return Route(method, re.compile("/v1/" + re.sub(r"\{\w+\}", "([^/]+)", path) + "$"), takes, act)


def _read(kind: str) -> Callable[..., dict[str, Any]]:
    return lambda state, object_id, given: state.get(kind, object_id)


def _list(kind: str, *filters: str, **fixed: str) -> Callable[..., dict[str, Any]]:
    """Answer with the newest first, those alone whose fields are as asked for."""

    def act(state: State, given: dict[str, Any]) -> dict[str, Any]:
        found = [
            each
            for each in reversed(state.of_kind(kind))
            if all(_fits(each, name, given[name]) for name in filters if name in given)
        ]
        limit = int(given.get("limit", 10))
        if "starting_after" in given:
            ids = [each["id"] for each in found]
            found = found[ids.index(given["starting_after"]) + 1 :]
        return {
            "object": "list",
            "data": found[:limit],
            "has_more": len(found) > limit,
            "url": f"/v1/{fixed['path']}",
        }

    return act


def _fits(each: dict[str, Any], name: str, wanted: Any) -> bool:
    if name == "status" and wanted == "all":
        return True
    if name == "lookup_keys":
        return each["lookup_key"] in wanted
    if name == "subscription":
        details = (each["parent"] or {}).get("subscription_details") or {}
        return details.get("subscription") == wanted
    if name == "payment":
        return each["payment"]["payment_intent"] == wanted.get("payment_intent")
    return each.get(name) == wanted


def _cancel(state: State, subscription_id: str, given: dict[str, Any]) -> dict[str, Any]:
    return subscriptions.cancel_now(state, subscription_id)


def _pay(state: State, invoice_id: str, given: dict[str, Any]) -> dict[str, Any]:
    invoice = state.get("invoice", invoice_id)
    invoices.pay(state, invoice)
    subscriptions.settle(state, invoice)
    return invoice


def _routes(secret: str) -> list[Route]:
    def endpoint(state: State, given: dict[str, Any]) -> dict[str, Any]:
        return catalogue.create_endpoint(state, given, secret)

    return [
        _route("POST", "products", params.ProductCreateParams, catalogue.create_product),
        _route("GET", "products/{id}", params.ProductRetrieveParams, _read("product")),
        _route("POST", "products/{id}", params.ProductUpdateParams, catalogue.update_product),
        _route("POST", "prices", params.PriceCreateParams, catalogue.create_price),
        _route("GET", "prices", params.PriceListParams, _list("price", "active", "lookup_keys", path="prices")),
        _route("GET", "prices/{id}", params.PriceRetrieveParams, _read("price")),
        _route("POST", "billing/meters", params.billing.MeterCreateParams, catalogue.create_meter),
        _route(
            "GET",
            "billing/meters",
            params.billing.MeterListParams,
            _list("billing.meter", "status", path="billing/meters"),
        ),
        _route("POST", "billing/meter_events", params.billing.MeterEventCreateParams, catalogue.create_meter_event),
        _route("POST", "customers", params.CustomerCreateParams, catalogue.create_customer),
        _route("GET", "customers/{id}", params.CustomerRetrieveParams, _read("customer")),
        _route(
            "DELETE",
            "customers/{id}",
            params.CustomerDeleteParams,
            lambda state, customer_id, given: catalogue.delete_customer(state, customer_id),
        ),
        _route(
            "GET",
            "subscriptions",
            params.SubscriptionListParams,
            _list("subscription", "customer", "status", path="subscriptions"),
        ),
        _route("GET", "subscriptions/{id}", params.SubscriptionRetrieveParams, _read("subscription")),
        _route("POST", "subscriptions/{id}", params.SubscriptionUpdateParams, subscriptions.update),
        _route("DELETE", "subscriptions/{id}", params.SubscriptionCancelParams, _cancel),
        _route("POST", "invoices/create_preview", params.InvoiceCreatePreviewParams, subscriptions.preview),
        _route(
            "GET",
            "invoices",
            params.InvoiceListParams,
            _list("invoice", "customer", "subscription", "status", path="invoices"),
        ),
        _route("GET", "invoices/{id}", params.InvoiceRetrieveParams, _read("invoice")),
        _route("POST", "invoices/{id}/pay", params.InvoicePayParams, _pay),
        _route(
            "GET",
            "invoice_payments",
            params.InvoicePaymentListParams,
            _list("invoice_payment", "invoice", "payment", path="invoice_payments"),
        ),
        _route("GET", "charges/{id}", params.ChargeRetrieveParams, _read("charge")),
        _route("GET", "events/{id}", params.EventRetrieveParams, _read("event")),
        _route("POST", "refunds", params.RefundCreateParams, invoices.refund),
        _route("GET", "refunds/{id}", params.RefundRetrieveParams, _read("refund")),
        _route("POST", "checkout/sessions", params.checkout.SessionCreateParams, checkout.create_session),
        _route(
            "GET",
            "checkout/sessions",
            params.checkout.SessionListParams,
            _list("checkout.session", "customer", "status", path="checkout/sessions"),
        ),
        _route(
            "POST",
            "checkout/sessions/{id}/expire",
            params.checkout.SessionExpireParams,
            lambda state, session_id, given: checkout.expire_session(state, session_id),
        ),
        _route(
            "POST",
            "billing_portal/configurations",
            params.billing_portal.ConfigurationCreateParams,
            catalogue.create_configuration,
        ),
        _route(
            "GET",
            "billing_portal/configurations",
            params.billing_portal.ConfigurationListParams,
            _list("billing_portal.configuration", "active", path="billing_portal/configurations"),
        ),
        _route("POST", "billing_portal/sessions", params.billing_portal.SessionCreateParams, checkout.create_portal),
        _route("POST", "webhook_endpoints", params.WebhookEndpointCreateParams, endpoint),
    ]


def add_api(application: web.Application, secret: str) -> None:
    routes = _routes(secret)

    async def answer(request: web.Request) -> web.Response:
        failures = application[FAILURES]
        how = failures.pop(0) if failures else None
        if isinstance(how, int):
            raise Fault(how, "api_error", "Something went wrong on Stripe's end.")
        status, body = await _answer(request, routes)
        application[DELIVERIES].send_waiting()
        if how == "cut":
            assert request.transport is not None
            request.transport.abort()
        headers = {"Request-Id": application[STATE].fresh_id("req")}
        return web.Response(text=body, status=status, content_type="application/json", headers=headers)

    application.router.add_route("*", "/v1/{path:.*}", answer)


async def _answer(request: web.Request, routes: list[Route]) -> tuple[int, str]:
    state = request.app[STATE]
    try:
        _check_key(request)
        pairs = parse_qsl(request.query_string, keep_blank_values=True) if request.method == "GET" else []
        raw = await request.text()
        given = read_form(pairs or parse_qsl(raw, keep_blank_values=True))
        key = request.headers.get("Idempotency-Key") if request.method == "POST" else None
        asked = hashlib.sha256(f"{request.method} {request.path} {raw}".encode()).hexdigest()
        if key is not None and key in state.answers:
            before, status, body = state.answers[key]
            if before != asked:
                raise Fault(
                    400,
                    "idempotency_error",
                    "Keys for idempotent requests can only be used with the same "
                    f"parameters they were first used with: {key}",
                )
            return status, body
        route, arguments = _find(request, routes)
        if problem := annotations.parameter_problem(given, None, route.takes):
            raise wrong(problem, code="parameter_unknown")
        if "expand" in given:
            raise wrong("This stand-in expands nothing.", "expand")
        try:
            status, body = 200, json.dumps(route.act(state, *arguments, given))
        except Fault as fault:
            status, body = fault.status, json.dumps(fault.document)
        # What fails before anything was begun may be asked again with its key.
        if key is not None and status != 400:
            state.answers[key] = (asked, status, body)
        return status, body
    except Fault as fault:
        return fault.status, json.dumps(fault.document)


def _check_key(request: web.Request) -> None:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    key = given if scheme == "Bearer" else base64.b64decode(given or "").decode().partition(":")[0]
    if key != request.app[KEY]:
        raise Fault(401, "invalid_request_error", "Invalid API Key provided.")
    if not request.headers.get("Stripe-Version"):
        raise wrong("The SDK sends the version of the API that it was made for.")


def _find(request: web.Request, routes: list[Route]) -> tuple[Route, tuple[str, ...]]:
    for route in routes:
        if route.method == request.method and (match := route.path.match(request.path)):
            return route, match.groups()
    raise Fault(404, "invalid_request_error", f"Unrecognized request URL ({request.method}: {request.path}).")
