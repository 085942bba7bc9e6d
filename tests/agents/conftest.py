"""Acme entered, a calendar in it, and the broker that mails are queued on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from celery import current_app

from agents.models import Agent, Service
from agents.tools import ToolContext
from tenants.models import Tenant
from tenants.scope import enter_tenant
from tests.agents import factories

QUEUE = "celery"


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


@pytest.fixture
def work_queue() -> Iterator[Callable[[], list[str]]]:
    """Return a function that does what is queued on the broker, as a worker would, and names the tasks it did."""
    with current_app.connection_for_write() as connection:
        channel = connection.default_channel
        channel.queue_purge(QUEUE)

        def work() -> list[str]:
            done = []
            while (message := channel.basic_get(QUEUE)) is not None:
                channel.basic_ack(message.delivery_tag)
                name = message.headers["task"]
                current_app.tasks[name](**json.loads(message.body)[1])
                done.append(name)
            return done

        yield work
        channel.queue_purge(QUEUE)
