"""Caps: what they come down to, the warning that goes out once a period, and what is refused."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.core import mail
from django.core.exceptions import ValidationError
from django.db import connections
from django.utils import timezone

from billing.caps import ALLOWED_SECONDS_SQL, Caps, allowed_seconds, set_caps, spend_cents, warning_seconds
from billing.entitlements import entitlements_of
from billing.models import Plan, Subscription, Usage
from billing.tasks import warn_of_caps
from tenants.models import AuditEntry, Role, Tenant, User
from tenants.scope import enter_tenant
from tests import factories


def plan(*, included_minutes: int = 1000, overage_cents: int = 12) -> Plan:
    return Plan(slug="any", included_minutes=included_minutes, overage_cents_per_minute=overage_cents)


def use(seconds: int) -> None:
    Usage.objects.create(
        kind="call_seconds",
        quantity=seconds,
        occurred_at=timezone.now(),
        idempotency_key=f"used {Usage.objects.count()}",
    )


@pytest.mark.parametrize(
    ("overage_cents", "limits", "seconds"),
    [
        (12, {}, None),
        (12, {"hard_minutes": 500}, 30_000),
        (12, {"hard_minutes": 1500}, 90_000),
        (12, {"hard_spend_cents": 0}, 60_000),
        (12, {"hard_spend_cents": 120}, 60_600),
        (7, {"hard_spend_cents": 100}, 60_857),  # 857 seconds cost 99.98 cents, 858 more than a dollar
        (12, {"hard_minutes": 1005, "hard_spend_cents": 120}, 60_300),
        (0, {}, 60_000),
        (0, {"hard_spend_cents": 500}, 60_000),  # there is nothing to be bought
        (0, {"hard_minutes": 2000}, 60_000),
        (0, {"hard_minutes": 0}, 0),
    ],
)
def test_all_caps_come_down_to_seconds_and_the_database_agrees(
    overage_cents: int, limits: dict[str, int], seconds: int | None
) -> None:
    on = plan(overage_cents=overage_cents)
    assert allowed_seconds(on, Caps(**limits)) == seconds
    if limits.get("hard_spend_cents") and overage_cents and seconds is not None and "hard_minutes" not in limits:
        assert spend_cents(on, seconds) <= limits["hard_spend_cents"]
    with connections["default"].cursor() as cursor:
        cursor.execute(
            f"SELECT {ALLOWED_SECONDS_SQL} FROM (SELECT %s::int, %s::int) plan "
            "(included_minutes, overage_cents_per_minute), (SELECT %s::int, %s::int) caps "
            "(hard_minutes, hard_spend_cents)",
            [1000, overage_cents, limits.get("hard_minutes"), limits.get("hard_spend_cents")],
        )
        assert cursor.fetchone() == (seconds,)


def test_spend_is_the_price_of_minutes_beyond_the_included_ones() -> None:
    assert [spend_cents(plan(), used) for used in (0, 60_000, 60_060, 60_090, 61_200)] == [0, 0, 12, 18, 240]
    assert spend_cents(plan(overage_cents=0), 10**6) == 0


def test_soft_caps_warn_and_do_not_stop() -> None:
    caps = Caps(soft_minutes=900, soft_spend_cents=60)
    assert warning_seconds(plan(), caps) == 54_000
    assert warning_seconds(plan(), Caps(soft_spend_cents=60)) == 60_300
    assert allowed_seconds(plan(), caps) is None and warning_seconds(plan(), None) is None


def test_a_warning_above_the_stop_is_refused(acme: Tenant, alice: User) -> None:
    with enter_tenant(acme.id):
        with pytest.raises(ValidationError, match="at or below"):
            set_caps(actor=alice, soft_minutes=100, hard_minutes=99)
        assert not Caps.objects.exists()


def test_a_hard_cap_refuses_calls_and_raising_it_allows_them(acme: Tenant, alice: User) -> None:
    with enter_tenant(acme.id):
        set_caps(actor=alice, hard_minutes=2)
        use(119)
        assert entitlements_of().refusal is None and entitlements_of().left_seconds == 1
        use(1)
        assert "limit that you have set" in str(entitlements_of().refusal)
        set_caps(actor=alice, hard_minutes=3)
        assert entitlements_of().refusal is None
        entry = AuditEntry.objects.filter(action="caps.changed").latest("occurred_at")
        assert (entry.actor, entry.details) == (alice, {"hard_minutes": 3})


def test_what_was_used_before_the_period_does_not_count(acme: Tenant, alice: User) -> None:
    with enter_tenant(acme.id):
        set_caps(actor=alice, hard_minutes=1)
        use(500)
        Subscription.objects.update(period_started_at=timezone.now())
        assert entitlements_of().refusal is None


def test_owners_are_told_of_a_soft_cap_once_a_period(acme: Tenant, rival: Tenant, alice: User, charlie: User) -> None:
    dora = factories.create_user(email="dora@acme.example")
    factories.add_member(tenant=acme, user=dora, role=Role.OWNER)
    with enter_tenant(acme.id):
        set_caps(actor=alice, soft_minutes=1, hard_minutes=5)
        use(59)
    with enter_tenant(rival.id):
        set_caps(actor=charlie, soft_minutes=1)
    assert warn_of_caps() == 0 and mail.outbox == []
    with enter_tenant(acme.id):
        use(61)
    assert warn_of_caps() == 1
    assert warn_of_caps() == 0
    (told,) = mail.outbox
    assert sorted(told.to) == [alice.email, dora.email]
    assert "2 minutes" in told.body and "Calls stop in 3 minutes" in told.body and "/t/acme/limits/" in told.body
    with enter_tenant(acme.id):
        Subscription.objects.update(period_started_at=timezone.now())
        use(90)
    assert warn_of_caps() == 1 and len(mail.outbox) == 2


def test_a_changed_soft_cap_is_told_of_again_and_an_unchanged_one_is_not(acme: Tenant, alice: User) -> None:
    with enter_tenant(acme.id):
        set_caps(actor=alice, soft_minutes=1, hard_minutes=9)
        use(180)
    assert warn_of_caps() == 1
    with enter_tenant(acme.id):
        set_caps(actor=alice, soft_minutes=1, hard_minutes=10)
    assert warn_of_caps() == 0
    with enter_tenant(acme.id):
        set_caps(actor=alice, soft_minutes=2, hard_minutes=10)
    assert warn_of_caps() == 1


def test_a_mail_that_cannot_be_sent_is_tried_again(acme: Tenant, alice: User, settings_of_mail: Any) -> None:
    with enter_tenant(acme.id):
        set_caps(actor=alice, soft_minutes=1)
        use(180)
    with settings_of_mail(EMAIL_BACKEND="django.core.mail.backends.smtp.EmailBackend", EMAIL_PORT=1):
        assert warn_of_caps() == 0
    assert warn_of_caps() == 1


@pytest.fixture
def settings_of_mail() -> Any:
    from django.test import override_settings

    return lambda **changed: override_settings(EMAIL_HOST="127.0.0.1", EMAIL_TIMEOUT=2, **changed)


def test_caps_of_another_tenant_are_not_there(acme: Tenant, rival: Tenant, alice: User) -> None:
    with enter_tenant(acme.id):
        set_caps(actor=alice, hard_minutes=1)
    with enter_tenant(rival.id):
        assert not Caps.objects.exists() and entitlements_of().allowed_seconds is None
        assert Caps.objects.filter(changed_at__gt=timezone.now() - datetime.timedelta(days=1)).count() == 0
