"""Tenants whose calls go to a worker that runs already."""

from __future__ import annotations

import secrets

from billing.models import Plan
from tenants.scope import enter_operator, enter_tenant
from tests.factories import create_tenant
from tests.voice.factories import create_agent, create_deployment
from voice.models import Call
from voice.tickets import call_address, issue_ticket

PLAN = "scale"


def lift_limits() -> None:
    """Let a tenant call as often as a measurement likes."""
    with enter_operator("benchmarks", reason="lift the limits of a plan"):
        Plan.objects.filter(slug=PLAN).update(max_concurrent_calls=100_000, included_minutes=10_000_000)


def addresses_of_calls(gateway_url: str, worker_port: int, count: int) -> list[str]:
    """Return as many addresses, of a tenant whose calls go to this worker."""
    name = f"bench-{secrets.token_hex(4)}"
    tenant = create_tenant(name=name, slug=name, plan=PLAN)
    with enter_tenant(tenant.id):
        agent = create_agent()
        create_deployment(port=worker_port)
        return [call_address(gateway_url, issue_ticket(agent, channel=Call.Channel.API)) for _ in range(count)]
