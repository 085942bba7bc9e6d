"""The affiliates' page, the link that they give away, and the operator's page of statements."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client

from billing.affiliates import collect_earnings, join
from billing.models import Affiliate, AffiliatePayout, Referral
from tenants.lookups import memberships_of
from tenants.models import Tenant, User
from tenants.scope import enter_operator, enter_tenant
from tests.billing.test_affiliates import MONTH, brought, create_invoice

SIGN_UP = {"email": "eve@bakery.example", "password1": "a long and silly passphrase", "time_zone": "Europe/Paris"}


@pytest.fixture
def affiliate(charlie: User) -> Affiliate:
    return join(user=charlie)


def referral_of(tenant_id: Any) -> Referral | None:
    with enter_tenant(tenant_id):
        return Referral.objects.first()


def test_a_visitor_who_came_by_a_link_is_attributed_when_signing_up(visitor: Client, affiliate: Affiliate) -> None:
    assert visitor.get(f"/via/{affiliate.code}/").status_code == 302
    visitor.get("/via/somebody-else/")  # the first one stays
    visitor.post("/accounts/signup/", {**SIGN_UP, "business_name": "Bakery"})
    (bakery,) = memberships_of(User.objects.get(email=SIGN_UP["email"]).pk)
    referral = referral_of(bakery.tenant_id)
    assert referral is not None and referral.affiliate == affiliate


def test_a_forged_cookie_attributes_nobody(visitor: Client, affiliate: Affiliate) -> None:
    visitor.cookies["via"] = affiliate.code
    visitor.post("/accounts/signup/", {**SIGN_UP, "business_name": "Bakery"})
    (bakery,) = memberships_of(User.objects.get(email=SIGN_UP["email"]).pk)
    assert referral_of(bakery.tenant_id) is None


def test_an_affiliate_needs_no_business(visitor: Client) -> None:
    page = visitor.get("/affiliate/").content.decode()
    assert "22 %" in page and "/accounts/signup/?next=/affiliate/" in page
    answer = visitor.post("/accounts/signup/?next=/affiliate/", {**SIGN_UP, "next": "/affiliate/"})
    assert (answer.status_code, answer.url) == (302, "/affiliate/")
    assert memberships_of(User.objects.get(email=SIGN_UP["email"]).pk) == []
    assert visitor.post("/affiliate/join/", follow=True).status_code == 200
    (code,) = re.findall(r"http://testserver/via/(\w+)/", visitor.get("/affiliate/").content.decode())[:1]
    assert Affiliate.objects.get().code == code


def test_everybody_sees_their_own_statements_alone(
    client_of: Any, acme: Tenant, affiliate: Affiliate, charlie: User, bob: User
) -> None:
    brought(acme, affiliate)
    create_invoice(acme, paid_cents=14_900)
    collect_earnings()
    page = client_of(charlie).get("/affiliate/").content.decode()
    assert "$32.78" in page and f"{MONTH:%B %Y}" in page
    assert "Acme" not in page  # whom they sent is between us and the business
    join(user=bob)
    assert "$32.78" not in client_of(bob).get("/affiliate/").content.decode()


def test_the_operator_marks_a_statement_as_paid(
    client_of: Any, acme: Tenant, affiliate: Affiliate, olivia: User, charlie: User
) -> None:
    brought(acme, affiliate)
    create_invoice(acme, paid_cents=14_900)
    collect_earnings()
    operator = client_of(olivia)
    assert "Mark as paid" in operator.get("/fleet/affiliates/").content.decode()
    address = f"/fleet/affiliates/{affiliate.pk}/{MONTH}/usd/"
    assert client_of(charlie).post(address).status_code == 404
    assert "is marked as paid" in operator.post(address, {"reference": "T-7"}, follow=True).content.decode()
    with enter_operator("the tests", reason="look"):
        assert AffiliatePayout.objects.get().cents == 3_278
    assert "was marked as paid on" in operator.post(address, follow=True).content.decode()
    assert operator.post(f"/fleet/affiliates/{affiliate.pk}/never/usd/").status_code == 302
    assert "T-7" in client_of(charlie).get("/affiliate/").content.decode()
