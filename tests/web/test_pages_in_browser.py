"""Every page of a tenant in a real browser, on a telephone and on a screen: nothing sticks out, nothing is refused."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Browser, Page, Playwright

from agents.contacts import keep_contact
from agents.models import Appointment, Message, Service
from tenants.models import Tenant, User
from tenants.scope import enter_tenant
from tests.voice.processes import running
from tests.web import factories
from tests.web.browsers import start_chromium
from tests.web.test_access import LEAST_ROLES, ROUTES, address_of
from tests.web.web_process import WebProcess

pytestmark = pytest.mark.browser

ENDINGS_OF_FORMS = (
    "change",
    "switch",
    "remove",
    "move",
    "cancel",
    "handled",
    "roll_back",
    "ticket",
    "access",
    "archive",
)
NO_PAGES = {
    "live_calls",
    "closure_new",
    "invite_member",
    "change_member",
    "withdraw_invitation",
    "revoke_api_key",
    *(name for name in LEAST_ROLES if name.endswith(tuple(f"_{ending}" for ending in ENDINGS_OF_FORMS))),
}
"""What answers to forms alone, or with a part of a page."""


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebProcess]:
    process = WebProcess(tmp_path, gateway_url="ws://127.0.0.1:1")
    with running(process.process):
        yield process


@pytest.fixture
def browser(playwright: Playwright) -> Iterator[Browser]:
    chromium = start_chromium(playwright)
    yield chromium
    chromium.close()


@pytest.fixture
def known(acme: Tenant) -> dict[str, object]:
    """What addresses take, of a tenant with long names in all places."""
    with enter_tenant(acme.id):
        agent = factories.create_agent(name="The receptionist of the long and narrow house by the lake")
        call = factories.create_call(agent)
        factories.create_call(agent, end_reason="worker_lost", boot="cold", minutes_ago=90)
        pool, _, container = factories.create_ready_pool()
        contact = keep_contact(name="Hubert Blaine Wolfeschlegelsteinhausenbergerdorff", phone="415 555 0101")
        service = Service.objects.get(name="haircut")
        now = timezone.now()
        appointment = Appointment.objects.create(
            service=service,
            contact=contact,
            name=contact.name,
            starts_at=now + datetime.timedelta(hours=1),
            ends_at=now + datetime.timedelta(hours=2),
            resource=service.resource,
        )
        Message.objects.create(contact=contact, text="Donaudampfschifffahrtselektrizitätenhauptbetriebswerk. " * 6)
        return {
            "tenant_slug": acme.slug,
            "agent_slug": agent.slug,
            "number": 1,
            "call_id": call.pk,
            "pool_id": pool.pk,
            "container_id": container.pk,
            "appointment_id": appointment.pk,
            "service_id": service.pk,
        }


def complaints_of(page: Page) -> list[str]:
    """Return a list that grows by what the browser complains of."""
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda problem: complaints.append(str(problem)))
    return complaints


def test_every_page_fits_its_window_and_runs_without_a_complaint(
    browser: Browser, web: WebProcess, known: dict[str, object], acme: Tenant, alice: User
) -> None:
    client = Client()
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    cookie = {"name": "sessionid", "value": client.cookies["sessionid"].value, "url": web.url}
    for width, scheme in ((390, "light"), (1440, "dark")):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.add_cookies([cookie])
        page = context.new_page()
        complaints = complaints_of(page)
        walked = 0
        for name in LEAST_ROLES:
            if name in NO_PAGES:
                continue
            assert ROUTES[name] <= set(known), f"{name} takes something that known does not hold"
            answer = page.goto(web.url + address_of(name, **known))
            assert answer is not None and answer.status == 200, (name, answer and answer.status)
            sticks_out = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert sticks_out <= 0, f"{name} is {sticks_out} px wider than a window of {width} px"
            assert page.locator("h1").count() == 1, name
            assert complaints == [], name
            walked += 1
        assert walked > 20
        context.close()
