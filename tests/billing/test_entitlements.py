"""What a plan entitles to, and when no call may begin."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, transaction
from django.utils import timezone

from billing.accounts import open_account
from billing.entitlements import entitlements_of
from billing.models import Plan, Subscription, Usage
from tenants.models import Membership, Role, Tenant, User
from tenants.scope import enter_operator, enter_tenant
from tests import factories


def use_seconds(quantity: int) -> None:
    Usage.objects.create(
        kind=Usage.Kind.CALL_SECONDS,
        quantity=quantity,
        call_id=uuid.uuid4(),
        occurred_at=timezone.now(),
        idempotency_key=str(uuid.uuid4()),
    )


def test_the_public_plans_are_the_three_of_the_price_list() -> None:
    prices = {plan.slug: plan.monthly_price_cents for plan in Plan.objects.public()}
    assert prices == {"starter": 14900, "growth": 49900, "scale": 149900}


def test_an_account_opens_with_an_owner_and_a_trial_of_fourteen_days(alice: User) -> None:
    tenant = open_account(name="Acme & Sons", owner=alice, time_zone="Europe/Paris")
    assert tenant.slug == "acme-sons"
    with enter_tenant(tenant.id):
        assert Membership.objects.get().role == Role.OWNER
        entitlements = entitlements_of()
        assert entitlements.plan.slug == "trial"
        assert entitlements.refusal is None
        left = entitlements.trial_ends_at - timezone.now()
        assert timedelta(days=13, hours=23) < left <= timedelta(days=14)


def test_two_businesses_of_one_name_get_two_addresses(alice: User, charlie: User) -> None:
    slugs = [open_account(name="Acme", owner=owner).slug for owner in (alice, charlie)]
    assert slugs == ["acme", "acme-2"]


@pytest.mark.parametrize("name", ["Fleet", "static", "???"])
def test_reserved_and_unwritable_names_get_an_address_of_their_own(name: str) -> None:
    slug = open_account(name=name, owner=None).slug
    assert slug and slug not in ("fleet", "static")


def test_a_trial_that_has_ended_refuses_with_a_sentence(alice: User) -> None:
    tenant = open_account(name="Acme", owner=alice)
    with enter_tenant(tenant.id):
        Subscription.objects.update(trial_ends_at=timezone.now() - timedelta(minutes=1))
        assert "The trial ended on" in entitlements_of().refusal


def test_a_suspended_tenant_is_refused_until_restored(acme: Tenant) -> None:
    with enter_tenant(acme.id):
        acme.suspend("Unpaid.")
        assert entitlements_of().refusal == "This account is suspended."
        acme.restore()
        assert entitlements_of().refusal is None


def test_a_plan_without_overage_stops_at_its_minutes_and_one_with_overage_goes_on(alice: User) -> None:
    trial = open_account(name="Acme", owner=alice)
    growth = factories.create_tenant(name="Big", plan="growth")
    for tenant, refusal in ((trial, "The plan's minutes are used up."), (growth, None)):
        with enter_tenant(tenant.id):
            use_seconds(entitlements_of().included_minutes * 60)
            assert entitlements_of().refusal == refusal


def test_a_correction_is_a_further_entry(acme: Tenant) -> None:
    with enter_tenant(acme.id):
        use_seconds(300)
        use_seconds(-60)
        assert entitlements_of().used_seconds == 240
        assert Usage.objects.total(Usage.Kind.CALL_SECONDS) == 240


def test_usage_is_recorded_once_per_key_and_never_changed(acme: Tenant) -> None:
    entry = {"kind": "call_seconds", "quantity": 60, "occurred_at": timezone.now(), "idempotency_key": "call:1"}
    with enter_tenant(acme.id):
        Usage.objects.create(**entry)
        with pytest.raises(IntegrityError), transaction.atomic():
            Usage.objects.create(**entry)
        with pytest.raises(DatabaseError), transaction.atomic():
            Usage.objects.update(quantity=1)
        assert Usage.objects.total("call_seconds") == 60


def test_usage_before_the_period_does_not_count(acme: Tenant) -> None:
    with enter_tenant(acme.id):
        use_seconds(600)
        Subscription.objects.update(period_started_at=timezone.now() + timedelta(seconds=1))
        assert entitlements_of().used_seconds == 0


def test_only_the_operator_changes_plans_and_migrating_again_keeps_the_change(olivia: User) -> None:
    with pytest.raises(DatabaseError, match="permission denied"):
        Plan.objects.filter(slug="starter").update(max_agents=99)
    try:
        with enter_operator(olivia, reason="a test"):
            Plan.objects.filter(slug="starter").update(max_agents=99)
        call_command("migrate", verbosity=0)
        assert Plan.objects.get(slug="starter").max_agents == 99
    finally:
        with enter_operator(olivia, reason="a test"):
            Plan.objects.filter(slug="starter").update(max_agents=3)
