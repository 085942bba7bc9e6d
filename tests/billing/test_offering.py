"""`manage.py sync_plans`: our plans at Stripe."""

from __future__ import annotations

import io
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from billing.models import Plan
from billing.offering import overage_unit
from billing.overage import overage_cents
from billing.stripe_api import StripeRefused, client
from tenants.models import User
from tenants.scope import enter_operator
from tests.stripe_server.client import StripeServer
from web.dependencies import NotWorking
from web.examination import ask_billing


def sync_plans() -> str:
    out = io.StringIO()
    call_command("sync_plans", stdout=out)
    return out.getvalue()


def test_each_plan_that_costs_has_its_prices_and_a_second_run_makes_nothing(stripe_server: StripeServer) -> None:
    assert sync_plans() == "Stripe has all of it already\n"
    for plan in Plan.objects.filter(monthly_price_cents__gt=0):
        assert plan.is_for_sale
        price = client().v1.prices.retrieve(plan.stripe_price_id)
        assert (price.unit_amount, price.currency) == (plan.monthly_price_cents, plan.currency)
        overage = client().v1.prices.retrieve(plan.stripe_overage_price_id)
        assert overage.recurring is not None and overage.recurring.usage_type == "metered"
        assert overage.unit_amount_decimal == overage_unit(plan)
    assert not Plan.objects.get(slug="trial").is_for_sale


def test_what_was_lost_here_is_found_again_there(stripe_server: StripeServer, olivia: User) -> None:
    def lose_and_sync() -> str:
        with enter_operator(olivia, reason="a test"):
            Plan.objects.update(stripe_product_id="", stripe_price_id="", stripe_overage_price_id="")
        return sync_plans()

    lose_and_sync()  # a test before this one may have left a lookup key with another price
    before = list(Plan.objects.values_list("stripe_price_id", "stripe_overage_price_id"))
    assert lose_and_sync() == "Stripe has all of it already\n"
    assert list(Plan.objects.values_list("stripe_price_id", "stripe_overage_price_id")) == before


def test_another_amount_is_a_new_price_and_the_old_one_stays(stripe_server: StripeServer, olivia: User) -> None:
    old = Plan.objects.get(slug="starter").stripe_price_id
    try:
        with enter_operator(olivia, reason="a test"):
            Plan.objects.filter(slug="starter").update(monthly_price_cents=15_900)
        assert sync_plans() == "made the price of Starter, a month\n"
        new = Plan.objects.get(slug="starter").stripe_price_id
        assert new != old
        assert [client().v1.prices.retrieve(each).unit_amount for each in (old, new)] == [14_900, 15_900]
    finally:
        with enter_operator(olivia, reason="a test"):
            Plan.objects.filter(slug="starter").update(monthly_price_cents=14_900)


def test_the_doctor_knows_whether_billing_is_off_works_or_lacks_a_price(
    stripe_server: StripeServer, olivia: User
) -> None:
    assert ask_billing() == f"3 plans are for sale at {stripe_server.url}"
    with override_settings(STRIPE_SECRET_KEY=""):
        assert ask_billing() == "off: no tenant is charged"
    with override_settings(STRIPE_SECRET_KEY="sk_test_other"), pytest.raises(StripeRefused, match="keys"):
        ask_billing()
    with enter_operator(olivia, reason="a test"):
        Plan.objects.filter(slug="scale").update(stripe_price_id="")
    with pytest.raises(NotWorking, match="Scale"):
        ask_billing()


def test_without_keys_it_says_that_billing_is_off() -> None:
    with pytest.raises(CommandError, match="Billing is off"):
        sync_plans()


@pytest.mark.parametrize(
    ("seconds", "cents"), [(0, 0), (1, 0), (3, 1), (5, 1), (60, 12), (299, 60), (302, 60), (303, 61)]
)
def test_overage_is_by_the_second_and_rounded_once_as_stripe_rounds(seconds: int, cents: int) -> None:
    plan = Plan(overage_cents_per_minute=12)
    assert overage_cents(seconds, plan) == cents
    stripes = (seconds * overage_unit(plan)).quantize(Decimal(1), "ROUND_HALF_UP")
    assert stripes == cents


@pytest.mark.parametrize("cents_per_minute", [1, 7, 9, 11])
def test_a_price_that_sixty_does_not_divide_is_exact_for_any_month(cents_per_minute: int) -> None:
    plan = Plan(overage_cents_per_minute=cents_per_minute)
    for seconds in (59, 60, 3601, 2_678_400 * 120):  # 120 lines that talk all month
        stripes = (seconds * overage_unit(plan)).quantize(Decimal(1), "ROUND_HALF_UP")
        assert stripes == overage_cents(seconds, plan)
