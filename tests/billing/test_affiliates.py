"""Affiliates: a tenant is theirs once, what it pays earns a share, and a statement is paid once."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import pytest
from django.db import DatabaseError, connections
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from billing import affiliates
from billing.affiliates import PayoutRefused, collect_earnings, join, mark_paid, refer, share_of, statements_of
from billing.models import Affiliate, AffiliateEarning, Invoice, Referral, Refund
from tenants.models import Role, Tenant, User
from tenants.scope import enter_operator, enter_tenant
from tests import factories

LAST_MONTH = timezone.now().replace(day=1, hour=12) - datetime.timedelta(days=5)
MONTH = LAST_MONTH.date().replace(day=1)


@pytest.fixture
def dora() -> User:
    return factories.create_user(email="dora@partners.example")


@pytest.fixture
def affiliate(dora: User) -> Affiliate:
    return join(user=dora)


def create_invoice(tenant: Tenant, *, paid_cents: int, at: datetime.datetime = LAST_MONTH, **fields: Any) -> Invoice:
    with enter_tenant(tenant.id):
        return Invoice.objects.create(
            **{
                "stripe_id": f"in_{uuid.uuid4().hex}",
                "status": Invoice.Status.PAID,
                "currency": "usd",
                "total_cents": paid_cents,
                "amount_due_cents": paid_cents,
                "amount_paid_cents": paid_cents,
                "period_starts_at": at,
                "period_ends_at": at,
                "created_at": at,
                "paid_at": at,
                **fields,
            }
        )


def refund(invoice: Invoice, cents: int, *, at: datetime.datetime = LAST_MONTH, status: str = "succeeded") -> None:
    with enter_tenant(invoice.tenant_id):
        Refund.objects.create(
            stripe_id=f"re_{uuid.uuid4().hex}",
            invoice=invoice,
            status=status,
            amount_cents=cents,
            currency=invoice.currency,
            created_at=at,
        )


def brought(tenant: Tenant, affiliate: Affiliate, owner: User | None = None) -> Referral | None:
    with enter_tenant(tenant.id):
        return refer(code=affiliate.code, owner=owner)


def earned(affiliate: Affiliate) -> list[tuple[datetime.date, int, int, int]]:
    return [(each.month_date, each.invoices, each.refunds, each.earned_cents) for each in statements_of(affiliate)]


def test_a_tenant_is_attributed_once_and_for_good(acme: Tenant, alice: User, affiliate: Affiliate, bob: User) -> None:
    assert brought(acme, affiliate, alice) is not None
    assert brought(acme, join(user=bob), alice) is None
    with enter_tenant(acme.id):
        assert Referral.objects.get().affiliate == affiliate
        with pytest.raises(DatabaseError, match="permission denied"):
            Referral.objects.update(affiliate=join(user=bob))


def test_nobody_brings_a_business_of_their_own(acme: Tenant, alice: User, affiliate: Affiliate) -> None:
    assert brought(acme, join(user=alice), alice) is None
    dora_again = factories.create_user(email="Dora+shop@partners.example")
    assert brought(acme, affiliate, dora_again) is None
    assert brought(acme, affiliate, alice) is not None


def test_an_unknown_link_and_one_that_is_switched_off_bring_nothing(acme: Tenant, affiliate: Affiliate) -> None:
    with enter_tenant(acme.id):
        assert refer(code="nobody", owner=None) is None
        assert refer(code="", owner=None) is None
    Affiliate.objects.update(is_active=False)
    assert brought(acme, affiliate) is None


def test_each_paid_invoice_earns_its_share_once_without_tax_and_less_refunds(
    acme: Tenant, rival: Tenant, affiliate: Affiliate
) -> None:
    brought(acme, affiliate)
    invoice = create_invoice(acme, paid_cents=17_850, tax_cents=2_850)  # $150 and 19 %
    create_invoice(acme, paid_cents=0, amount_paid_cents=0)
    create_invoice(acme, paid_cents=9_000, status=Invoice.Status.OPEN)
    create_invoice(rival, paid_cents=50_000)
    refund(invoice, 5_950)
    refund(invoice, 1_000, status="pending")
    assert collect_earnings() == 2
    assert collect_earnings() == 0
    assert earned(affiliate) == [(MONTH, 1, 1, 3_300 - 1_100)]


def test_earnings_stop_where_the_affiliate_joins_the_business(acme: Tenant, affiliate: Affiliate, dora: User) -> None:
    brought(acme, affiliate)
    factories.add_member(tenant=acme, user=dora, role=Role.ADMIN)
    create_invoice(acme, paid_cents=10_000)
    assert collect_earnings() == 0 and earned(affiliate) == []


def test_a_statement_is_paid_once_when_its_month_is_over(acme: Tenant, affiliate: Affiliate, olivia: User) -> None:
    brought(acme, affiliate)
    create_invoice(acme, paid_cents=10_000)
    create_invoice(acme, paid_cents=10_000, at=timezone.now())
    collect_earnings()
    with enter_operator("olivia", reason="pay affiliates"):
        payout = mark_paid(affiliate=affiliate, month_date=MONTH, currency="usd", reference=" T-1 ", actor=olivia)
        assert (payout.cents, payout.reference) == (2_200, "T-1")
        for month, why in ((MONTH, "was marked as paid"), (timezone.now().date().replace(day=1), "not over")):
            with pytest.raises(PayoutRefused, match=why):
                mark_paid(affiliate=affiliate, month_date=month, currency="usd", reference="", actor=olivia)
        with pytest.raises(PayoutRefused, match="Nothing is owed"):
            mark_paid(affiliate=affiliate, month_date=MONTH, currency="eur", reference="", actor=olivia)
    assert affiliates.owed_cents(statements_of(affiliate)) == {}


def test_what_is_told_late_of_a_paid_month_comes_in_the_present_one(
    acme: Tenant, affiliate: Affiliate, olivia: User
) -> None:
    brought(acme, affiliate)
    invoice = create_invoice(acme, paid_cents=10_000)
    collect_earnings()
    with enter_operator("olivia", reason="pay affiliates"):
        mark_paid(affiliate=affiliate, month_date=MONTH, currency="usd", reference="", actor=olivia)
    refund(invoice, 10_000)
    assert collect_earnings() == 1
    assert earned(affiliate) == [
        (timezone.now().date().replace(day=1), 0, 1, -2_200),
        (MONTH, 1, 0, 2_200),
    ]


def test_the_application_cannot_read_what_others_earned(acme: Tenant) -> None:
    with pytest.raises(DatabaseError, match="permission denied"), connections["default"].cursor() as cursor:
        cursor.execute(f"SELECT * FROM {AffiliateEarning._meta.db_table}")


@given(cents=st.integers(-10_000_000, 10_000_000), percent=st.integers(0, 100))
def test_a_share_is_rounded_by_half_a_cent_at_most_and_a_refund_takes_it_back(cents: int, percent: int) -> None:
    assert abs(100 * share_of(cents, percent) - cents * percent) <= 50
    assert share_of(-cents, percent) == -share_of(cents, percent)
