"""The page of limits, and the banners that follow from them."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from billing.caps import Caps, set_caps
from billing.models import Usage
from tenants.models import Role, Tenant, User
from tenants.scope import enter_tenant
from tests import factories


def use(tenant: Tenant, minutes: int) -> None:
    with enter_tenant(tenant.id):
        Usage.objects.create(
            kind="call_seconds", quantity=60 * minutes, occurred_at=timezone.now(), idempotency_key="used"
        )


def test_an_owner_sets_and_clears_limits(client_of: Any, acme: Tenant, alice: User) -> None:
    client = client_of(alice)
    typed = {"soft_minutes": "800", "hard_minutes": "900", "soft_spend": "0", "hard_spend": "12.50"}
    assert client.post("/t/acme/limits/", typed).status_code == 302
    with enter_tenant(acme.id):
        caps = Caps.objects.get()
        assert (caps.soft_minutes, caps.hard_minutes, caps.soft_spend_cents, caps.hard_spend_cents) == (
            800,
            900,
            0,
            1250,
        )
    page = client.get("/t/acme/limits/").content.decode()
    assert 'value="12.5' in page and 'value="800"' in page
    client.post("/t/acme/limits/", {"soft_minutes": "", "hard_minutes": "", "soft_spend": "", "hard_spend": ""})
    with enter_tenant(acme.id):
        caps = Caps.objects.get()
        assert caps.hard_minutes is None and caps.hard_spend_cents is None


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ({"soft_minutes": "10", "hard_minutes": "9"}, "at or below the hard cap"),
        ({"hard_minutes": "-1"}, "greater than or equal to 0"),
        ({"hard_spend": "1.234"}, "decimal places"),
        ({"hard_spend": "a lot"}, "Enter a number"),
    ],
)
def test_what_makes_no_sense_is_said_and_kept(
    client_of: Any, acme: Tenant, alice: User, typed: dict[str, str], sentence: str
) -> None:
    answer = client_of(alice).post("/t/acme/limits/", typed)
    page = answer.content.decode()
    assert answer.status_code == 422 and sentence in page
    assert all(f'value="{value}"' in page for value in typed.values())
    with enter_tenant(acme.id):
        assert not Caps.objects.exists()


def test_an_admin_may_not_set_limits(client_of: Any, acme: Tenant) -> None:
    dora = factories.create_user(email="dora@acme.example")
    factories.add_member(tenant=acme, user=dora, role=Role.ADMIN)
    assert client_of(dora).post("/t/acme/limits/", {"hard_minutes": "1"}).status_code == 403
    assert "Limits" not in client_of(dora).get("/t/acme/").content.decode()


def test_everybody_sees_that_the_soft_cap_is_passed(client_of: Any, acme: Tenant, alice: User, bob: User) -> None:
    with enter_tenant(acme.id):
        set_caps(actor=alice, soft_minutes=100, hard_minutes=120)
    use(acme, 99)
    assert 'class="banner"' not in client_of(bob).get("/t/acme/").content.decode()
    with enter_tenant(acme.id):
        Usage.objects.create(kind="call_seconds", quantity=90, occurred_at=timezone.now(), idempotency_key="a bit more")
    page = client_of(bob).get("/t/acme/calls/").content.decode()
    assert "100 minutes were used" in page and "Calls stop in 19 minutes" in page
    assert (
        "/t/acme/limits/" not in page and "/t/acme/limits/" in client_of(alice).get("/t/acme/calls/").content.decode()
    )


def test_everybody_sees_that_calls_are_refused(client_of: Any, acme: Tenant, alice: User, bob: User) -> None:
    with enter_tenant(acme.id):
        set_caps(actor=alice, hard_minutes=50)
    use(acme, 50)
    assert "raise it to go on" in client_of(bob).get("/t/acme/").content.decode()
