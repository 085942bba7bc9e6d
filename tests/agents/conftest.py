"""Acme entered, and a calendar in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agents.models import Agent, Service
from agents.tools import ToolContext
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.agents import factories


@pytest.fixture
def inside(acme: Tenant) -> Iterator[Tenant]:
    """Acme, entered for the whole test."""
    with enter_tenant(acme.pk):
        yield acme


@pytest.fixture
def haircut(inside: Tenant) -> Service:
    """A service of 45 minutes, which can be booked from Monday to Friday from nine to five."""
    factories.open_on(0, 1, 2, 3, 4)
    return factories.create_service()


@pytest.fixture
def agent(inside: Tenant) -> Agent:
    return Agent.objects.create(slug="desk", name="Front desk", vertical="salon", draft=factories.CONFIG)


@pytest.fixture
def context(agent: Agent) -> ToolContext:
    return factories.make_context(agent)
