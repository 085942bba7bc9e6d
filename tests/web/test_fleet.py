"""The operator's page: every tenant's pools, calls and cost, and suspending one."""

from __future__ import annotations

from typing import Any

import pytest

from tenants.models import AuditEntry, Tenant, User
from tenants.scope import enter_tenant
from tests.web import factories
from tests.web.pages import words


@pytest.fixture
def busy(acme: Tenant, rival: Tenant) -> None:
    """Acme has a pool, a call that ended and one that goes on; rival has a call that went wrong."""
    with enter_tenant(acme.id):
        factories.create_ready_pool()
        desk = factories.create_agent()
        factories.create_call(desk)
        factories.create_call(desk, is_live=True, minutes_ago=1)
    with enter_tenant(rival.id):
        factories.create_call(factories.create_agent(), end_reason="worker_lost", turn_ms=(900, 2100))


def test_the_operator_sees_all_tenants_together(client_of: Any, busy: None, olivia: User) -> None:
    page = words(client_of(olivia).get("/fleet/").content.decode())
    for expected in ("Acme", "Rival", "Cascade", "ready", "1 went wrong", "$0.000857"):
        assert expected in page, (expected, page)
    assert "1 calls now" in page or "1 call now" in page


def test_the_part_that_updates_itself_names_who_talks(client_of: Any, busy: None, olivia: User) -> None:
    part = words(client_of(olivia).get("/fleet/calls/").content.decode())
    assert "Acme" in part and "Front desk" in part and "Rival" not in part


def test_an_empty_installation_has_a_fleet_page(client_of: Any, olivia: User) -> None:
    assert client_of(olivia).get("/fleet/").status_code == 200


def test_a_tenant_is_suspended_and_restored(client_of: Any, acme: Tenant, alice: User, olivia: User) -> None:
    operator, owner = client_of(olivia), client_of(alice)
    address = f"/fleet/tenants/{acme.pk}/standing/"
    page = words(operator.post(address, {"action": "suspend", "reason": "Unpaid"}, follow=True).content.decode())
    assert "Acme is suspended." in page
    assert "suspended" in words(owner.get("/t/acme/").content.decode()).lower()
    assert owner.post("/t/acme/api-keys/", {"name": "x", "scopes": ["calls:read"]}).status_code == 403
    assert "Acme is restored" in words(operator.post(address, {"action": "restore"}, follow=True).content.decode())
    assert owner.post("/t/acme/api-keys/", {"name": "x", "scopes": ["calls:read"]}).status_code == 200
    with enter_tenant(acme.id):
        actions = set(AuditEntry.objects.filter(actor_name="olivia@warmline.example").values_list("action", flat=True))
    assert {"tenant.suspended", "tenant.restored"} <= actions
