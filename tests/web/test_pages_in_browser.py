"""Every page in a real browser, on a telephone and on a screen: it fits, can be read, and nothing is refused."""

from __future__ import annotations

import datetime
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sphn
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Browser, BrowserContext, Playwright

from agents.contacts import keep_contact
from agents.models import Appointment, Message, Service
from content import recordings
from content.models import Recording
from tenants.models import AuditEntry, Tenant, User
from tenants.scope import enter_tenant
from tests.recording_stores import Objects
from tests.voice.processes import running
from tests.web import factories, telephone
from tests.web.browsers import start_chromium
from tests.web.looks import assert_looks_right, complaints_of
from tests.web.test_access import LEAST_ROLES, ROUTES, address_of
from tests.web.web_process import WebProcess

pytestmark = pytest.mark.browser

WINDOWS = [(390, "light"), (1440, "dark")]

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
    "call_recording",
    "closure_new",
    "billing_next",
    "billing_subscribe",
    "billing_change",
    "billing_portal",
    "invite_member",
    "change_member",
    "withdraw_invitation",
    "revoke_api_key",
    "remove_service_key",
    "call_place",
    "outbound_agree",
    "outbound_withdraw",
    "do_not_call_add",
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
        recording = Recording.objects.create(call_id=call.pk, stopped_at=timezone.now(), problem="It broke off.")
        recordings.keep_file(recording, whistling(12), duration_ms=12_000, begins_at_ms=400)
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
        number = telephone.fill(agent, call)
        return {
            "tenant_slug": acme.slug,
            "agent_slug": agent.slug,
            "number": 1,
            "call_id": call.pk,
            "pool_id": pool.pk,
            "container_id": container.pk,
            "appointment_id": appointment.pk,
            "service_id": service.pk,
            "number_id": number.pk,
            "carrier": "signalwire",
        }


def whistling(seconds: int) -> bytes:
    """Return a recording in which somebody whistles on the right."""
    at = np.arange(seconds * 24_000) / 24_000
    with tempfile.NamedTemporaryFile(suffix=".opus") as file:
        sphn.write_opus(file.name, np.stack([0 * at, 0.1 * np.sin(2800 * at)]).astype(np.float32), 24_000)
        return Path(file.name).read_bytes()


def signed_in_window(browser: Browser, web: WebProcess, user: User, *, width: int, scheme: str) -> BrowserContext:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    window = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    window.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": web.url}])
    return window


@pytest.mark.parametrize(("width", "scheme"), WINDOWS)
def test_every_page_of_a_tenant_looks_right(
    width: int, scheme: str, browser: Browser, web: WebProcess, known: dict[str, object], acme: Tenant, alice: User
) -> None:
    with signed_in_window(browser, web, alice, width=width, scheme=scheme) as window:
        page = window.new_page()
        complaints = complaints_of(page)
        walked = 0
        for name in LEAST_ROLES:
            if name in NO_PAGES:
                continue
            assert ROUTES[name] <= set(known), f"{name} takes something that known does not hold"
            answer = page.goto(web.url + address_of(name, **known))
            assert answer is not None and answer.status == 200, (name, answer and answer.status)
            assert_looks_right(page, complaints)
            walked += 1
        assert walked > 20


@pytest.mark.parametrize(("width", "scheme"), WINDOWS)
def test_the_operators_pages_and_those_of_an_account_look_right(
    width: int, scheme: str, browser: Browser, web: WebProcess, known: dict[str, object], olivia: User
) -> None:
    with signed_in_window(browser, web, olivia, width=width, scheme=scheme) as window:
        page = window.new_page()
        complaints = complaints_of(page)
        for address in (
            "/fleet/",
            "/fleet/numbers/",
            "/dashboard/",
            "/accounts/password/change/",
            "/accounts/email/",
            "/accounts/logout/",
        ):
            answer = page.goto(web.url + address)
            assert answer is not None and answer.status == 200, address
            assert_looks_right(page, complaints)
    with browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme) as window:
        page = window.new_page()
        complaints = complaints_of(page)
        for address in ("/accounts/login/", "/accounts/signup/", "/accounts/password/reset/"):
            page.goto(web.url + address)
            assert_looks_right(page, complaints)


def test_a_line_is_heard_from_where_it_was_said(
    browser: Browser, web: WebProcess, known: dict[str, object], acme: Tenant, bob: User
) -> None:
    with signed_in_window(browser, web, bob, width=1440, scheme="light") as window:
        page = window.new_page()
        complaints = complaints_of(page)
        page.goto(f"{web.url}/t/acme/calls/{known['call_id']}/")
        line = page.locator(".said--agent", has_text="Agent's words 1").get_by_role("button")
        line.click()
        # The reply began 5,000 ms into the call, and the recording 400.
        page.wait_for_function("() => { const a = document.querySelector('audio'); return a.currentTime > 4.65; }")
        assert page.evaluate("document.querySelector('audio').currentTime") < 8
        assert page.evaluate("document.querySelector('audio').duration") == pytest.approx(12, abs=0.2)
        page.wait_for_function("() => document.querySelectorAll('[data-heard]').length == 1")
        assert page.locator("[data-heard]").get_attribute("data-seek") == line.get_attribute("data-seek") == "4.6"
        page.locator(".said--agent", has_text="Hello, this is Acme").get_by_role("button").click()
        page.wait_for_function("() => document.querySelector('audio').currentTime < 4")
        assert_looks_right(page, complaints)
    with enter_tenant(acme.id):
        assert AuditEntry.objects.filter(action="recording.listened").count() == 1


def test_the_page_says_why_a_recording_cannot_be_played(
    browser: Browser, tmp_path: Path, objects: Objects, keep_recordings_in: Any, acme: Tenant, bob: User
) -> None:
    keep_recordings_in(objects.settings)
    with enter_tenant(acme.id):
        call = factories.create_call(factories.create_agent())
        recording = Recording.objects.create(call_id=call.pk, stopped_at=timezone.now())
        recordings.keep_file(recording, whistling(12), duration_ms=12_000, begins_at_ms=400)
    options = {**objects.server.options, "read_seconds": 0.3}
    store = {**objects.environment, "RECORDINGS_STORAGE_OPTIONS": json.dumps(options)}
    web = WebProcess(tmp_path, gateway_url="ws://127.0.0.1:1", more=store)
    with running(web.process), signed_in_window(browser, web, bob, width=390, scheme="light") as window:
        page = window.new_page()
        page.goto(f"{web.url}/t/acme/calls/{call.pk}/")
        away, unreadable = page.get_by_text("does not answer at the moment"), page.get_by_text("can no longer be read")
        line = page.locator(".said--agent").first.get_by_role("button")
        objects.server.freeze()
        try:
            line.click()
            away.wait_for(state="visible")
            assert not unreadable.is_visible()
        finally:
            objects.server.thaw()
        line.click()
        away.wait_for(state="hidden")
        page.wait_for_function("() => document.querySelector('audio').currentTime > 1")
        objects.write(recording.file, b"no recording" * 100)
        page.reload()
        line.click()
        unreadable.wait_for(state="visible")
        assert not away.is_visible()


def test_a_telephones_list_of_calls_takes_two_lines_a_call(
    browser: Browser, web: WebProcess, known: dict[str, object], alice: User
) -> None:
    with signed_in_window(browser, web, alice, width=390, scheme="light") as window:
        page = window.new_page()
        page.goto(f"{web.url}/t/acme/calls/")
        call = page.locator("#rows tbody tr").last
        box = call.bounding_box()
        assert box is not None and box["height"] < 110  # its agent's name is two lines by itself
        for label in ("Agent", "State", "Lasted", "Cost"):
            assert call.locator(f"[data-label={label}]").is_visible()


def test_a_telephone_shows_the_prices_of_all_plans_at_once(browser: Browser, web: WebProcess) -> None:
    with browser.new_context(viewport={"width": 390, "height": 900}) as window:
        page = window.new_page()
        page.goto(f"{web.url}/pricing/")
        assert page.locator(".plans thead th").count() == 3
        assert page.locator(".plans").evaluate("(plans) => plans.scrollWidth - plans.clientWidth") <= 0


def test_the_telephones_menu_opens_and_leads_on(
    browser: Browser, web: WebProcess, known: dict[str, object], alice: User
) -> None:
    with signed_in_window(browser, web, alice, width=390, scheme="light") as window:
        page = window.new_page()
        page.goto(f"{web.url}/t/acme/")
        link = page.locator("#sidebar nav a", has_text="Pools")
        assert not link.is_visible()
        page.get_by_role("button", name="Menu").click()
        link.click()
        assert page.url == f"{web.url}/t/acme/pools/"


def test_the_keyboards_place_can_be_seen(
    browser: Browser, web: WebProcess, known: dict[str, object], alice: User
) -> None:
    with signed_in_window(browser, web, alice, width=1440, scheme="light") as window:
        page = window.new_page()
        page.goto(f"{web.url}/t/acme/members/")
        seen = set()
        for _ in range(24):
            page.keyboard.press("Tab")
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            where = page.evaluate("document.activeElement.outerHTML.slice(0, 120)")
            if where.startswith("<body"):
                break
            assert outline != "none", where
            seen.add(where)
        assert len(seen) > 12
