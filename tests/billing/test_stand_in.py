"""The stand-in for Stripe is held against the SDK: the shape of what it answers, and what it takes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import stripe
from stripe._object_classes import get_object_class

from billing import changing
from billing.models import Plan
from billing.stripe_api import client
from tenants.models import User
from tenants.scope import enter_tenant
from tests import factories
from tests.billing.factories import FAILING_CARD, subscribe, use_seconds
from tests.stripe_server import annotations
from tests.stripe_server.annotations import blank, problems
from tests.stripe_server.client import WEBHOOK_SECRET, StripeServer
from tests.stripe_server.forms import read_form


def parts_of(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in an answer that says what it is."""
    if isinstance(value, dict):
        if isinstance(value.get("object"), str) and value["object"] != "list":
            yield value
        for each in value.values():
            yield from parts_of(each)
    elif isinstance(value, list):
        for each in value:
            yield from parts_of(each)


def test_all_that_it_keeps_and_sends_has_the_fields_and_types_of_the_sdks_own_classes(
    stripe_server: StripeServer, alice: User
) -> None:
    tenant = factories.create_tenant(name="Acme", owner=alice, plan="trial")
    customer = subscribe(stripe_server, tenant, alice)
    with enter_tenant(tenant.id):
        use_seconds(100)
        changing.change_plan(plan=Plan.objects.get(slug="growth"), actor=alice)
        changing.change_plan(plan=Plan.objects.get(slug="starter"), actor=alice)
    stripe_server.advance(days=32)
    payment = client().v1.invoice_payments.list({"limit": 1}).data[0].payment
    client().v1.refunds.create({"payment_intent": str(payment.payment_intent)})
    stripe_server.control("card", customer=customer, card=FAILING_CARD)
    stripe_server.advance(days=45)
    client().v1.billing.meter_events.create(
        {"event_name": "warmline_overage_seconds", "payload": {"stripe_customer_id": customer, "value": "1"}}
    )
    client().v1.billing_portal.sessions.create(
        {"customer": customer, "configuration": stripe_server.objects("billing_portal.configuration")[0]["id"]}
    )
    client().v1.webhook_endpoints.create({"url": "http://127.0.0.1:9/", "enabled_events": ["no.event"]})
    seen = set()
    for kept in stripe_server.control("objects").values():
        for document in kept:
            for part in parts_of(document):
                seen.add(part["object"])
                assert problems(part, get_object_class("V1", part["object"])) == []
    assert seen >= {
        "billing.meter",
        "billing_portal.configuration",
        "billing_portal.session",
        "charge",
        "checkout.session",
        "customer",
        "event",
        "invoice",
        "invoice_payment",
        "line_item",
        "payment_intent",
        "payment_method",
        "price",
        "product",
        "refund",
        "subscription",
        "subscription_item",
        "webhook_endpoint",
    }


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("cancel_at", "soon", "not int"),
        ("cancel_at_period_end", 1, "not bool"),
        ("customer", "", "not an id"),
        ("automatic_tax", {}, "is missing"),
        ("metadata", [], "not an object"),
        ("items", [], "no list object"),
        ("colour", "red", "no field"),
        ("discounts", [3], "not an id"),
    ],
)
def test_the_shapes_are_really_held(field: str, value: Any, words: str) -> None:
    sound = blank(stripe.Subscription, id="sub_1", customer="cus_1")
    assert problems(sound, stripe.Subscription) == []
    assert words in " ".join(problems({**sound, field: value}, stripe.Subscription))


def test_forms_nest_as_the_sdk_writes_them() -> None:
    from stripe._encode import _api_encode

    given = {"items": [{"id": "si_1", "price": "p"}, {"id": "si_2", "deleted": True}], "metadata": {"a": "1"}, "n": 3}
    pairs = [(name, str(value)) for name, value in _api_encode(given)]
    assert read_form(pairs) == {**given, "n": "3"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": "x", "colour": "red"}, "unknown parameter: colour"),
        ({"name": "x", "address": {"planet": "Mars"}}, "unknown parameter: address[planet]"),
    ],
)
def test_what_the_sdk_has_no_parameter_for_is_refused(
    stripe_server: StripeServer, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client().v1.customers.create(given)  # type: ignore[arg-type]
    assert words in str(refused.value)


def test_what_a_request_lacks_is_named() -> None:
    from stripe import params

    assert "event_name" in str(annotations.parameter_problem({}, None, params.billing.MeterEventCreateParams))


def test_a_key_makes_a_request_happen_once_and_serves_no_other(stripe_server: StripeServer) -> None:
    made = [client().v1.customers.create({"name": "x"}, {"idempotency_key": "k"}).id for _ in range(3)]
    assert len(set(made)) == 1
    with pytest.raises(stripe.IdempotencyError):
        client().v1.customers.create({"name": "y"}, {"idempotency_key": "k"})


def test_events_are_signed_and_sent_again_until_they_are_taken(stripe_server: StripeServer) -> None:
    taken: list[tuple[bytes, str]] = []
    statuses = iter([500, 503, 200])

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taken.append((body, self.headers["Stripe-Signature"]))
            self.send_response(next(statuses))
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as endpoint:
        threading.Thread(target=endpoint.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{endpoint.server_port}/"
        client().v1.webhook_endpoints.create({"url": address, "enabled_events": ["customer.created"]})
        made = client().v1.customers.create({"name": "x"})
        attempts = stripe_server.control("deliveries")["attempts"]
        endpoint.shutdown()
    assert [attempt["status"] for attempt in attempts] == [500, 503, 200]
    assert len({body for body, _ in taken}) == 1
    event = stripe.Webhook.construct_event(*taken[-1], WEBHOOK_SECRET)
    assert (event.type, event.data.object.id) == ("customer.created", made.id)


def test_another_installations_key_is_refused(stripe_server: StripeServer) -> None:
    stranger = stripe.StripeClient("sk_test_other", base_addresses={"api": stripe_server.url})
    with pytest.raises(stripe.AuthenticationError):
        stranger.v1.customers.create({"name": "x"})
