"""The billing page: what members see, what admins do there, and what it says while billing is off."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from billing.models import Invoice, Subscription
from tenants.models import Tenant, User
from tenants.scope import enter_tenant
from tests import factories
from tests.billing.conftest import offered, stripe_process, stripe_server  # noqa: F401  (fixtures)
from tests.billing.factories import FAILING_CARD, hear, subscribe, use_seconds
from tests.stripe_server.client import StripeServer
from tests.web.pages import words

ClientOf = Callable[[User], Client]
PAGE = "/t/acme/billing/"


@pytest.fixture
def tenant(alice: User, bob: User) -> Tenant:
    """Acme in its trial, bob a viewer."""
    tenant = factories.create_tenant(name="Acme", owner=alice, plan="trial")
    factories.add_member(tenant=tenant, user=bob)
    return tenant


def read(answer: Any) -> str:
    assert answer.status_code == 200, answer.status_code
    return words(answer.content.decode())


def pressed(client: Client, address: str, **given: str) -> str:
    """Return where a button leads, or what it said."""
    answer = client.post(address, given)
    assert answer.status_code in (302, 303)
    if answer.headers["Location"] != PAGE:
        return answer.headers["Location"]
    return read(client.get(PAGE))


def test_without_keys_it_says_plainly_that_billing_is_off(client_of: ClientOf, tenant: Tenant, alice: User) -> None:
    client = client_of(alice)
    page = read(client.get(PAGE))
    assert "Billing is off on this installation" in page
    assert "Subscribe to" not in page
    assert "Billing is off" in pressed(client, f"{PAGE}subscribe/", plan="starter")


def test_a_viewer_looks_and_has_no_buttons(
    stripe_server: StripeServer,  # noqa: F811
    client_of: ClientOf,
    tenant: Tenant,
    alice: User,
    bob: User,
) -> None:
    subscribe(stripe_server, tenant, alice, plan="growth")
    page = read(client_of(bob).get(PAGE))
    assert "Growth" in page and "$499 a month" in page and "An admin or an owner chooses the plan." in page
    assert not re.search("Change to|Cancel|Subscribe|Cards and address", page)
    assert "$499" in read(client_of(bob).get(f"{PAGE}next/"))


def test_an_owner_subscribes_and_comes_back_to_the_plan_before_any_event(
    stripe_server: StripeServer,  # noqa: F811
    client_of: ClientOf,
    tenant: Tenant,
    alice: User,
) -> None:
    client = client_of(alice)
    assert "After the trial" in read(client.get(PAGE))
    checkout = pressed(client, f"{PAGE}subscribe/", plan="growth")
    back = stripe_server.control("complete", session=checkout.rsplit("/", 1)[1])["redirect"]
    assert back.startswith(f"{settings.PUBLIC_URL}{PAGE}?checkout=cs_")
    page = read(client.get(back.removeprefix(settings.PUBLIC_URL), follow=True))
    assert "Thank you. You are on Growth." in page and "Change to Scale" in page


def test_a_change_is_shown_with_its_price_and_made(
    stripe_server: StripeServer,  # noqa: F811
    client_of: ClientOf,
    tenant: Tenant,
    alice: User,
) -> None:
    subscribe(stripe_server, tenant, alice, plan="growth")
    client = client_of(alice)
    answer = client.get(f"{PAGE}change/scale/")
    assert "$1,000" in read(answer) or "$999." in read(answer)
    at = re.search(r'name="at" value="(\d+)"', answer.content.decode())
    assert at is not None
    assert "You are on Scale now." in pressed(client, f"{PAGE}change/scale/", at=at[1])
    assert "You are on Scale already." in pressed(client, f"{PAGE}change/scale/")
    assert client.get(f"{PAGE}change/trial/").status_code == 404


def test_it_is_cancelled_and_kept(
    stripe_server: StripeServer,  # noqa: F811
    client_of: ClientOf,
    tenant: Tenant,
    alice: User,
) -> None:
    subscribe(stripe_server, tenant, alice)
    client = client_of(alice)
    assert "The subscription ends on" in pressed(client, f"{PAGE}cancel/", action="cancel")
    assert "The subscription goes on." in pressed(client, f"{PAGE}cancel/", action="keep")


def test_invoices_stand_with_their_state_refunds_and_links(
    stripe_server: StripeServer,  # noqa: F811
    client_of: ClientOf,
    tenant: Tenant,
    alice: User,
) -> None:
    from billing.stripe_api import client as stripe_client

    customer = subscribe(stripe_server, tenant, alice)
    stripe_server.control("card", customer=customer, card=FAILING_CARD)
    stripe_server.advance(days=32)
    payment = stripe_client().v1.invoice_payments.list({"limit": 1}).data[0].payment
    stripe_client().v1.refunds.create({"payment_intent": str(payment.payment_intent), "amount": 1000})
    hear(stripe_server.events(customer))
    answer = client_of(alice).get(PAGE)
    page = read(answer)
    assert "paid" in page and "$10 refunded" in page
    with enter_tenant(tenant.id):
        unpaid = Invoice.objects.unpaid().get()
    assert f"Invoice {unpaid.number} of $149 is unpaid" in page and "Calls go on until" in page
    assert unpaid.hosted_url in answer.content.decode()


def test_what_went_beyond_the_plan_stands_with_its_price(client_of: ClientOf, acme: Tenant, alice: User) -> None:
    with enter_tenant(acme.id):
        use_seconds(5000 * 60 + 90)
    assert "$0.14" in read(client_of(alice).get(PAGE))  # 90 s at 9 cents a minute, rounded half up


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"trial_ends_at": datetime.timedelta(days=2, hours=1)}, "in 2 days: new calls are refused from then on"),
        ({"trial_ends_at": -datetime.timedelta(days=2)}, "choose a plan to go on. New calls are refused."),
        ({"next_plan_id": "growth"}, "and Growth begins: nothing stops."),
        (
            {"status": "past_due", "grace_ends_at": datetime.timedelta(days=2)},
            "An invoice is unpaid. Calls go on until",
        ),
        (
            {"status": "past_due", "grace_ends_at": -datetime.timedelta(days=2)},
            "An invoice is unpaid: pay it to go on.",
        ),
        ({"status": "cancelled"}, "The subscription was cancelled: choose a plan to go on."),
    ],
)
def test_every_page_says_above_what_ends_and_when(
    client_of: ClientOf, tenant: Tenant, bob: User, fields: dict[str, Any], said: str
) -> None:
    now = timezone.now()
    with enter_tenant(tenant.id):
        Subscription.objects.update(
            **{name: now + each if isinstance(each, datetime.timedelta) else each for name, each in fields.items()}
        )
    for address in ("/t/acme/", "/t/acme/calls/", PAGE):
        assert said in read(client_of(bob).get(address))


def test_while_stripe_is_away_the_page_stands_and_a_button_says_so(
    stripe_server: StripeServer,  # noqa: F811
    client_of: ClientOf,
    tenant: Tenant,
    alice: User,
) -> None:
    subscribe(stripe_server, tenant, alice)
    client = client_of(alice)
    stripe_server.control("fail", how=[500] * 9)
    assert "Starter" in read(client.get(PAGE))
    assert "Stripe cannot be reached" in read(client.get(f"{PAGE}next/"))
    assert "Stripe cannot be reached" in pressed(client, f"{PAGE}portal/")
