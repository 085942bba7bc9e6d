"""Calls that are spoken, through a gateway to real workers, and their records."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np

from agents.catalog import templates_by_slug
from agents.models import Agent
from agents.versions import create_agent_from_template, publish, save_draft
from provisioning.models import CostEntry
from tenants.models import Tenant
from tenants.scope import enter_operator, enter_tenant
from tests.voice.conftest import GatewayProcess
from tests.voice.processes import wait_until
from voice.models import Session
from voice.records import call_record, find_call
from voice.tickets import call_address, issue_ticket
from voice.wav_caller import Heard, call_with_wavs, read_wav

GATEWAY_PATIENCE = {"GATEWAY_HANDSHAKE_SECONDS": "20", "GATEWAY_CALLER_SILENCE_SECONDS": "60"}
"""Of a gateway whose workers load models, on a machine that does much else."""


def salon(tenant: Tenant) -> Agent:
    with enter_tenant(tenant.id):
        return create_agent_from_template(template=templates_by_slug()["salon-front-desk"], actor=None, slug="salon")


def publish_with(tenant: Tenant, agent: Agent, **changes: Any) -> None:
    with enter_tenant(tenant.id):
        agent.refresh_from_db()
        assert save_draft(agent=agent, draft={**agent.draft, **changes}, actor=None) == []
        publish(agent=agent, actor=None)


def address_of(gateway: GatewayProcess, tenant: Tenant, agent: Agent) -> str:
    with enter_tenant(tenant.id):
        agent.refresh_from_db()
        return call_address(gateway.url, issue_ticket(agent))


def call(gateway: GatewayProcess, folder: Path) -> dict[str, Any]:
    """Call acme's salon and ask what is in the folder; return the record. Its answer can be heard."""
    with enter_operator("tests", reason="find acme"):
        tenant = Tenant.objects.get(slug="acme")
    with enter_tenant(tenant.id):
        agent = Agent.objects.get(slug="salon")
    question = read_wav(folder / "question.wav")
    return record_of(tenant, asyncio.run(call_with_wavs(address_of(gateway, tenant, agent), [question])))


def record_of(tenant: Tenant, heard: Heard) -> dict[str, Any]:
    """Return the record of a call that has ended; its answer could be heard."""
    assert np.abs(heard.recording()).max() > 0.05
    assert heard.call_id is not None
    with enter_tenant(tenant.id):
        wait_until(lambda: not find_call(heard.call_id).is_live, within_seconds=15, what="the record of the call")
        return call_record(find_call(heard.call_id))


def roles_of(tenant: Tenant, record: dict[str, Any]) -> set[str]:
    """Return for what a call held places; each was warm, and its time and cost are in the ledger."""
    with enter_tenant(tenant.id):
        sessions = list(Session.objects.filter(call_id=record["id"]))
        assert all(session.boot == "warm" and session.active_ms > 0 for session in sessions)
        entries = CostEntry.objects.filter(call_id=record["id"], part="active")
        assert entries.count() == len(sessions)
        assert sum(entry.nano_dollars for entry in entries) == record["cost"]["nano_dollars"] > 0
        return {session.role for session in sessions}
