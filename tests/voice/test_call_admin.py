"""Calls in the operator's admin."""

from __future__ import annotations

from typing import Any

from django.urls import reverse

from tenants.models import Tenant, User
from tenants.scope import enter_tenant
from tests.voice import factories
from voice.models import Turn


def test_an_operator_sees_the_calls_of_all_tenants(acme: Tenant, rival: Tenant, olivia: User, client_of: Any) -> None:
    for tenant in (acme, rival):
        with enter_tenant(tenant.id):
            call = factories.create_call(agent=factories.create_agent())
            Turn.objects.create(call=call, index=1, at_ms=900, turn_ms=640)
    client = client_of(olivia)
    page = client.get(reverse("admin:voice_call_changelist"))
    assert page.status_code == 200
    assert "Acme" in page.content.decode() and "Rival" in page.content.decode()
    page = client.get(reverse("admin:voice_call_change", args=[call.id]))
    assert page.status_code == 200 and "640" in page.content.decode()
    assert client.get(reverse("admin:voice_calllease_changelist")).status_code == 200


def test_a_tenants_owner_does_not(alice: User, acme: Tenant, client_of: Any) -> None:
    assert client_of(alice).get(reverse("admin:voice_call_changelist")).status_code == 404
