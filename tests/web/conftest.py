"""What tests of pages share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import Client
from playwright.sync_api import Playwright

from agents.models import Agent
from tenants.models import Tenant, User
from tenants.scope import enter_tenant
from tests.web import factories
from tests.web.browsers import running_playwright


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    """One for a module: while it runs, no asynchronous test can."""
    with running_playwright() as running:
        yield running


@pytest.fixture
def visitor() -> Client:
    """Somebody who has not signed in."""
    return Client()


@pytest.fixture
def agent(acme: Tenant) -> Agent:
    with enter_tenant(acme.id):
        return factories.create_agent()


@pytest.fixture
def dora(acme: Tenant) -> User:
    """A developer of acme's."""
    return factories.add_developer(acme)
