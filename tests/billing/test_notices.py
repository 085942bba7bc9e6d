"""What owners are told by mail before something ends: each once."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.core import mail
from django.test import override_settings
from django.utils import timezone

from billing import notices, tasks
from billing.models import Plan, Subscription
from tenants.models import Role, Tenant, User
from tenants.scope import enter_tenant
from tests import factories

DAY = datetime.timedelta(days=1)


@pytest.fixture
def tenant(alice: User) -> Tenant:
    carol = factories.create_user(email="carol@acme.example")
    tenant = factories.create_tenant(name="Acme", owner=alice, plan="trial", time_zone="Europe/Paris")
    factories.add_member(tenant=tenant, user=carol, role=Role.OWNER)
    return tenant


def stands(tenant: Tenant, **fields: Any) -> None:
    with enter_tenant(tenant.id):
        Subscription.objects.update(**fields)


def subjects() -> list[str]:
    tasks.send_notices()
    return [sent.subject for sent in mail.outbox]


def test_the_end_of_a_trial_is_told_three_days_and_one_day_before_and_never_after(tenant: Tenant) -> None:
    ends_at = timezone.now() + 3.5 * DAY
    stands(tenant, trial_ends_at=ends_at)
    told = []
    with enter_tenant(tenant.id):
        for days_later in (0, 0.6, 1, 2.6, 3, 3.6):
            due = notices.due_notices(now=timezone.now() + days_later * DAY)
            told.append([each.key.rpartition(":")[2] for each in due])
            for each in due:
                assert notices.send_once(each)
    assert told == [[], ["3"], [], ["1"], [], []]
    first = mail.outbox[0]
    assert "Acme ends on" in first.subject and "(Europe/Paris)" in first.body
    assert "new calls are refused" in first.body and "/t/acme/billing/" in first.body
    assert sorted(first.to) == ["alice@acme.example", "carol@acme.example"]


def test_each_is_told_once(tenant: Tenant) -> None:
    stands(tenant, trial_ends_at=timezone.now() + 2 * DAY)
    assert len(subjects()) == 1
    assert [len(subjects()) for _ in range(3)] == [1, 1, 1]


def test_who_was_away_for_the_first_mail_is_told_the_second_alone(tenant: Tenant) -> None:
    stands(tenant, trial_ends_at=timezone.now() + 0.5 * DAY)
    assert len(subjects()) == 1


def test_a_trial_that_goes_on_as_a_plan_says_so(tenant: Tenant) -> None:
    stands(tenant, trial_ends_at=timezone.now() + 2 * DAY, next_plan=Plan.objects.get(slug="growth"))
    subjects()
    assert "The plan Growth begins then" in mail.outbox[0].body
    assert "refused" not in mail.outbox[0].body


def test_a_failed_payment_is_told_with_the_day_until_which_calls_go_on(tenant: Tenant) -> None:
    stands(tenant, status="past_due", grace_ends_at=timezone.now() + 5 * DAY)
    assert subjects() == ["A payment of Acme failed"]
    assert "Calls go on until" in mail.outbox[0].body
    assert subjects() == ["A payment of Acme failed"]


def test_the_end_of_the_grace_is_told_a_day_before(tenant: Tenant) -> None:
    stands(tenant, status="past_due", grace_ends_at=timezone.now() + 0.5 * DAY)
    first, second = subjects()
    assert first == "A payment of Acme failed" and second.startswith("Calls of Acme stop on")


def test_a_mail_that_cannot_be_sent_is_sent_later(tenant: Tenant) -> None:
    stands(tenant, trial_ends_at=timezone.now() + 2 * DAY)
    with override_settings(
        EMAIL_BACKEND="django.core.mail.backends.smtp.EmailBackend", EMAIL_HOST="127.0.0.1", EMAIL_PORT=1
    ):
        assert tasks.send_notices() == 0
    assert tasks.send_notices() == 1


@pytest.mark.parametrize("status", ["active", "cancelled"])
def test_nothing_is_told_where_nothing_ends(tenant: Tenant, status: str) -> None:
    stands(tenant, status=status, trial_ends_at=timezone.now() + DAY)
    assert subjects() == []
